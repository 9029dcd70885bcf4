"""What Ray, MLflow and the records add to training: a whole study beside the same packs trained bare.

The same study without MLflow, which its records can be sent to later, tells what MLflow adds of it. The ideal is the
time that the same packs take, split evenly over processes without Ray, records and MLflow, once these have started; it
is taken before and after each study. Measured twice: with packs as the study makes them, and with a pack, and so a Ray
trial, for each trial, which is the dearest case.
"""

import itertools
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.processes import run_together
from study.packing import CPU_PACK

DATA = "synthetic:50000"
FIELDS = "depth=10, normalization='batch', epochs=2, train_size={train_size}, test_size=1000"
SIZES_TRIED = 4_096, 8_192
SPACE = f'''
from search_spaces.axes import grid

def short():
    """Short trials of a usual network."""
    return grid({FIELDS}, seed=list(range({{trials}})))
'''


def measure_overhead(trials: int, seconds_each: float) -> Iterator[dict[str, Any]]:
    """Run a study of short trials, in packs of the default size and of one; yield how much longer each took."""
    for pack in (CPU_PACK, 1):
        yield _measure_in_packs(trials, seconds_each, pack)


def _measure_in_packs(trials: int, seconds_each: float, pack: int) -> dict[str, Any]:
    print(f"  packs of {pack} …", flush=True)  # it takes a quarter of an hour
    train_size = _size_that_takes(seconds_each, pack)
    with tempfile.TemporaryDirectory() as folder:
        space = Path(folder) / "space.py"
        space.write_text(SPACE.format(train_size=train_size, trials=trials))
        command = [sys.executable, "-m", "study", "run", f"{space}:short", "--data", DATA]
        command += ["--max-pack", str(pack), "--device", "cpu"]
        sending = ["--storage", str(Path(folder) / "sending")]
        later = ["--storage", str(Path(folder) / "later"), "--send-later"]
        # In turn: a shared machine's speed drifts within the quarter of an hour that this takes.
        bare, studies = [_seconds_bare(trials, train_size, pack)], []
        for options in (sending, later):
            studies.append(_seconds_of([*command, *options]))
            bare.append(_seconds_bare(trials, train_size, pack))
    cores, mean = os.cpu_count() or 1, sum(bare) / len(bare)
    overhead, without_mlflow = compare_in_turn(studies, bare)
    return {
        "trials": trials,
        "pack": pack,
        "train_size": train_size,
        "study_seconds": studies[0],
        "study_seconds_without_mlflow": studies[1],
        "bare_seconds": mean,
        "bare_seconds_in_turn": bare,
        "bare_seconds_per_trial": mean * cores / trials,
        "overhead": overhead,
        "overhead_without_mlflow": without_mlflow,
    }


def compare_in_turn(studies: Sequence[float], bare: Sequence[float]) -> list[float]:
    """Return how much longer each study took than the mean of the bare processes before and after it, as a share."""
    ideals = [(before + after) / 2 for before, after in itertools.pairwise(bare)]
    return [study / ideal - 1 for study, ideal in zip(studies, ideals, strict=True)]


def _seconds_of(command: list[str]) -> float:
    started = time.perf_counter()
    run_together([command])
    return time.perf_counter() - started


BARE = f"""
import sys
import time
from pathlib import Path
from study.datasets import load_dataset
from study.packing import make_packs
from study.processor import prepare_processor
from study.train_loop import train_pack
from study.trial_config import TrialConfig
first, stop, train_size, pack = map(int, sys.argv[1:5])
prepare_processor()
dataset = load_dataset(sys.argv[5], Path("data"))

def train(seeds, train_size):
    trials = [TrialConfig({FIELDS.format(train_size="train_size")}, seed=seed) for seed in seeds]
    for packed in make_packs(trials, pack):
        for _ in train_pack(packed.trials, dataset):
            pass

train([0], 256)  # what a process does once
started = time.perf_counter()
train(range(first, stop), train_size)
print(time.perf_counter() - started)
"""


def _size_that_takes(seconds: float, pack: int) -> int:
    """Return the training images with which a bare trial takes about so long while all cores train."""
    cores, packs_per_core = os.cpu_count() or 1, max(6, 24 // pack)  # the first ones take longer
    trials = cores * packs_per_core * pack
    small, large = SIZES_TRIED
    of_small, of_large = (_seconds_bare(trials, size, pack) / (packs_per_core * pack) for size in SIZES_TRIED)
    per_image = max((of_large - of_small) / (large - small), 1e-9)  # evaluation and probes do not grow with the images
    return min(max(round((small + (seconds - of_small) / per_image) / 128) * 128, 256), 50_000)


def _seconds_bare(trials: int, train_size: int, pack: int) -> float:
    """Return the seconds that the same trials take on all cores, whole packs on each."""
    cores, packs = os.cpu_count() or 1, -(-trials // pack)
    bounds = [min(trials, packs * core // cores * pack) for core in range(cores + 1)]
    return _run_bare(list(itertools.pairwise(bounds)), train_size, pack)


def _run_bare(ranges: list[tuple[int, int]], train_size: int, pack: int) -> float:
    commands = [
        [sys.executable, "-c", BARE, *map(str, (start, stop, train_size, pack)), DATA] for start, stop in ranges
    ]
    return max(map(float, run_together(commands)))
