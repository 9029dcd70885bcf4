"""What Ray, MLflow and the records add to training: a whole study beside the same trials trained bare.

Each trial has a pack, and so a Ray trial, of its own, which is the dearest case. The ideal is the time that the same
trainings take, split evenly over processes without Ray, records and MLflow, once these have started.
"""

import itertools
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

DATA = "synthetic:50000"
SPACE = '''
from search_spaces.axes import grid

def short():
    """Trials of a tiny network, {trials} of them, each in a pack of its own."""
    return grid(depth=4, width=16, epochs=2, batch_size=32, train_size={train_size}, test_size=64, probe_size=16,
                seed=list(range({trials})))
'''


def measure_overhead(trials: int, seconds_each: float) -> dict[str, Any]:
    """Run a study of short trials, one per pack, and return how much longer it took than its training."""
    with tempfile.TemporaryDirectory() as folder:
        space = Path(folder) / "space.py"
        train_size = _size_that_takes(seconds_each)
        space.write_text(SPACE.format(trials=trials, train_size=train_size))
        command = [sys.executable, "-m", "study", "run", f"{space}:short", "--data", DATA]
        command += ["--max-pack", "1", "--device", "cpu", "--storage", str(Path(folder) / "studies")]
        started = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        seconds = time.perf_counter() - started
        training = _seconds_bare(trials, train_size)
    cores = os.cpu_count() or 1
    return {
        "trials": trials,
        "train_size": train_size,
        "study_seconds": seconds,
        "bare_seconds": training,
        "bare_seconds_per_trial": training * cores / trials,
        "overhead": seconds / training - 1,
    }


BARE = """
import sys
import time
from pathlib import Path
from study.datasets import load_dataset
from study.processor import prepare_processor
from study.train_loop import train_pack
from study.trial_config import TrialConfig
prepare_processor()
dataset = load_dataset(sys.argv[4], Path("data"))

def train(seed, train_size):
    trial = TrialConfig(depth=4, width=16, epochs=2, batch_size=32, train_size=train_size, test_size=64,
                        probe_size=16, seed=seed)
    for _ in train_pack([trial], dataset):
        pass

train(0, 64)  # what a process does once
started = time.perf_counter()
for seed in range(int(sys.argv[1]), int(sys.argv[2])):
    train(seed, int(sys.argv[3]))
print(time.perf_counter() - started)
"""


def _size_that_takes(seconds: float) -> int:
    """Return the training images with which a bare trial takes about so long."""
    size = 4_000
    return max(64, int(size * seconds / _run_bare([(0, 2)], size) * 2 / 32) * 32)


def _seconds_bare(trials: int, train_size: int) -> float:
    """Return the seconds that the same trials take on all cores, without Ray, records and MLflow."""
    cores = os.cpu_count() or 1
    bounds = [trials * core // cores for core in range(cores + 1)]
    return _run_bare(list(itertools.pairwise(bounds)), train_size)


def _run_bare(ranges: list[tuple[int, int]], train_size: int) -> float:
    commands = [[sys.executable, "-c", BARE, str(start), str(stop), str(train_size), DATA] for start, stop in ranges]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for command in commands]
    return max(float(process.communicate()[0]) for process in running)
