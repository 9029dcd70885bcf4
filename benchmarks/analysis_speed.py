"""Seconds to load and to report 1,000 trials of 50 layers × 20 epochs: `python -m benchmarks.analysis_speed`.

The store (sqlite and files) is simulated, written by the study's own code, and kept in the storage folder for the next
time; writing it takes minutes.
"""

import argparse
import contextlib
import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from analysis.findings import Findings
from analysis.load_runs import load_study
from analysis.report import write_report
from analysis.tables_cache import FOLDER_VARIABLE
from benchmarks.machine import describe_machine
from benchmarks.simulated_study import write_store
from search_spaces.axes import grid
from study.tracking_uri import home_tracking_uri, sqlite_path
from study.trial_config import TrialConfig

NAME = "bench"
RESULTS = Path(__file__).parent / "results"


def make_trials(count: int) -> list[TrialConfig]:
    """Return trials of 4 networks, 4 dilution levels, 4 learning rates and as many seeds as it takes."""
    axes = {"activation": ["relu", "tanh"], "normalization": ["none", "batch"], "dilution": [0, 1, 2, 4]}
    seeds = list(range(count // 64 + 1))
    return grid(depth=50, epochs=20, learning_rate=[3e-4, 1e-3, 3e-3, 1e-2], seed=seeds, **axes)[:count]


@contextlib.contextmanager
def measured(times: dict[str, dict[str, float]], name: str) -> Iterator[None]:
    """Note wall-clock and processor seconds: on a machine that others use, too, only the latter are this one's."""
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    times[name] = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    print(f"{name:<16} {times[name]['wall']:6.2f} s, {times[name]['cpu']:6.2f} s of processor time", flush=True)


def main() -> None:
    """Measure, print, record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--storage", type=Path, default=Path("studies") / "simulated", help="(default: %(default)s)")
    options = parser.parse_args()
    tracking_uri = home_tracking_uri(options.storage)
    if not sqlite_path(tracking_uri).exists():
        print(f"Writing a simulated store of {options.trials} trials into {options.storage}", flush=True)
        write_store(options.storage, NAME, make_trials(options.trials))
    with tempfile.TemporaryDirectory() as folder:
        os.environ[FOLDER_VARIABLE] = folder
        times: dict[str, dict[str, float]] = {}
        for load in ("first load", "load with cache"):
            with measured(times, load):
                frames = load_study(NAME, tracking_uri)
        with measured(times, "report"):
            write_report(Findings(frames), Path(folder) / NAME, "benchmark")
    result = {"trials": len(frames.trials), "layer_rows": len(frames.layers), "seconds": times}
    print(f"{result['trials']} trials, {result['layer_rows']:,} rows of layers")
    machine = describe_machine()
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"analysis_speed_{machine['date']}.json"
    path.write_text(json.dumps({"machine": machine, **result}, indent=2) + "\n")
    print(f"Recorded in {path}")


if __name__ == "__main__":
    main()
