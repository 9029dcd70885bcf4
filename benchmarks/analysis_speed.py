"""Seconds to load and to report 1,000 trials of 50 layers × 20 epochs: `python -m benchmarks.analysis_speed`.

The store (sqlite and files) is simulated, written by the study's own code, and kept in the storage folder for the next
time; writing it takes minutes.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

from analysis.findings import Findings
from analysis.load_runs import load_study
from analysis.report import write_report
from analysis.tables_cache import FOLDER_VARIABLE
from benchmarks.machine import describe_machine
from benchmarks.simulated_study import write_store
from search_spaces.axes import grid
from study import run_log_schema as schema
from study.trial_config import TrialConfig

NAME = "bench"
RESULTS = Path(__file__).parent / "results"


def make_trials(count: int) -> list[TrialConfig]:
    """Return trials of 4 networks, 4 dilution levels, 4 learning rates and as many seeds as it takes."""
    axes = {"activation": ["relu", "tanh"], "normalization": ["none", "batch"], "dilution": [0, 1, 2, 4]}
    seeds = list(range(count // 64 + 1))
    return grid(depth=50, epochs=20, learning_rate=[3e-4, 1e-3, 3e-3, 1e-2], seed=seeds, **axes)[:count]


def main() -> None:
    """Measure, print, record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--storage", type=Path, default=Path("studies") / "simulated", help="(default: %(default)s)")
    options = parser.parse_args()
    tracking_uri = schema.home_tracking_uri(options.storage)
    if not schema.sqlite_path(tracking_uri).exists():
        print(f"Writing a simulated store of {options.trials} trials into {options.storage}", flush=True)
        write_store(options.storage, NAME, make_trials(options.trials))
    with tempfile.TemporaryDirectory() as folder:
        os.environ[FOLDER_VARIABLE] = folder
        times = {}
        for load in ("first load", "load with cache"):
            started = time.perf_counter()
            frames = load_study(NAME, tracking_uri)
            times[load] = time.perf_counter() - started
        started = time.perf_counter()
        write_report(Findings(frames), Path(folder) / NAME, "benchmark")
        times["report"] = time.perf_counter() - started
    result = {"trials": len(frames.trials), "layer_rows": len(frames.layers), "seconds": times}
    print(f"{result['trials']} trials, {result['layer_rows']:,} rows of layers:")
    for name, seconds in times.items():
        print(f"{name:<16} {seconds:6.2f} s")
    machine = describe_machine()
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"analysis_speed_{machine['date']}.json"
    path.write_text(json.dumps({"machine": machine, **result}, indent=2) + "\n")
    print(f"Recorded in {path}")


if __name__ == "__main__":
    main()
