"""Ten thousand simulated trials → memory of the driver and time per trial, as the study grows.

    nice python -m benchmarks.many_trials --trials 10000

Everything is real but training, which takes no time: the plan, Ray, the records on the disk, MLflow, the report.
"""

import argparse
import itertools
import json
import os
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import psutil
from rich.console import Console

from benchmarks import simulated_packs
from benchmarks.machine import describe_machine
from search_spaces.axes import grid
from study import driver, sweep, sync_command, training_session
from study.tracking_uri import home_tracking_uri

RESULTS = Path(__file__).parent / "results"
FIGURE = Path(__file__).parent.parent / "docs" / "figures" / "many_trials.png"
SAMPLE_SECONDS = 1.0
DEPTHS, EPOCHS = [3, 10, 20, 30], 3


class Samples:
    """Memory of this process and trials done, over time; a thread while the context is open."""

    def __init__(self, count: Callable[[], int]) -> None:
        self.count, self.rows = count, list[dict[str, float]]()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Samples":
        self.started = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._thread.join()
        self._take()

    def _run(self) -> None:
        while not self._closing.wait(SAMPLE_SECONDS):
            self._take()

    def _take(self) -> None:
        resident = psutil.Process().memory_info().rss / 2**20
        seconds = time.monotonic() - self.started
        self.rows.append({"seconds": seconds, "trials": self.count(), "driver_megabytes": resident})


def run(trial_count: int, storage: Path, console: Console) -> dict[str, Any]:
    """Plan and record a study; return how it went."""
    seeds = list(range(-(-trial_count // len(DEPTHS))))
    started = time.monotonic()
    trials = grid(depth=DEPTHS, width=4, seed=seeds, epochs=EPOCHS, batch_size=64, probe_size=16)[:trial_count]
    planned = time.monotonic() - started
    ended = 0
    original = training_session._Observer.pack_ended

    def count(self: training_session._Observer, pack_id: str, statuses: dict[str, str]) -> None:
        nonlocal ended
        ended += len(statuses)
        original(self, pack_id, statuses)

    options = driver.StudyOptions(
        name="many", data="synthetic:100", data_folder=storage / "data", max_pack=8, device="cpu", storage=storage,
        tracking_uri=None, address=None, dry_run=False, send_later=True,
    )  # fmt: skip
    with (
        mock.patch.object(sweep, "train_on_worker", simulated_packs.train_on_worker),
        mock.patch.object(training_session._Observer, "pack_ended", count),
        Samples(lambda: ended) as samples,
    ):
        status = driver.run_study(options, trials, console)
    assert status == 0, f"the study ended with status {status}"
    assert ended == len(trials)
    return {"trials": len(trials), "plan_seconds": planned, "run_samples": samples.rows}


def sync(trial_count: int, storage: Path, console: Console) -> dict[str, Any]:
    """Send all records to MLflow (sqlite, in this process); return how it went."""
    from study import run_sender

    sent = 0
    original = run_sender.RunSender._transmit

    def count(self: run_sender.RunSender, trial_id: str) -> None:
        nonlocal sent
        original(self, trial_id)
        sent += 1

    with mock.patch.object(run_sender.RunSender, "_transmit", count), Samples(lambda: sent) as samples:
        status = sync_command.sync_study(storage, "many", None, console)
    assert status == 0, f"sending ended with status {status}"
    return {"sync_samples": samples.rows}


def report(storage: Path, folder: Path) -> dict[str, float]:
    """Write the report; return its seconds and the memory of this process behind it."""
    from analysis.__main__ import main as analysis

    started = time.monotonic()
    uri = home_tracking_uri(storage)
    status = analysis(["report", "many", "--tracking-uri", uri, "--output", str(folder)])
    assert status == 0, f"the report ended with status {status}"
    memory = psutil.Process().memory_info().rss / 2**20
    return {"report_seconds": time.monotonic() - started, "report_megabytes": memory}


def by_tenths(rows: list[dict[str, float]], trial_count: int) -> list[dict[str, float]]:
    """Return, for each tenth of the trials, milliseconds per trial and the driver's memory at its end."""
    table = []
    reached = [next(row for row in rows if row["trials"] >= trial_count * tenth / 10) for tenth in range(11)]
    begun = max((row for row in rows if row["trials"] == 0), key=lambda row: row["seconds"], default=rows[0])
    reached[0] = begun
    for earlier, later in itertools.pairwise(reached):
        done = later["trials"] - earlier["trials"]
        milliseconds = 1000 * (later["seconds"] - earlier["seconds"]) / done if done else float("nan")
        table.append({"trials": later["trials"], "milliseconds_per_trial": milliseconds,
                      "driver_megabytes": later["driver_megabytes"]})  # fmt: skip
    return table


def draw(result: dict[str, Any], path: Path) -> None:
    """Draw memory and pace over trials done."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (memory, pace) = pyplot.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    for key, label in (("run_samples", "train (simulated) and record"), ("sync_samples", "send to MLflow")):
        rows = result.get(key)
        if not rows:
            continue
        memory.plot([row["trials"] for row in rows], [row["driver_megabytes"] for row in rows], label=label)
        tenths = by_tenths(rows, result["trials"])
        trials = [row["trials"] for row in tenths]
        pace.plot(trials, [row["milliseconds_per_trial"] for row in tenths], marker="o", label=label)
    memory.set(xlabel="trials done", ylabel="memory of the driver, MB")
    pace.set(xlabel="trials done", ylabel="milliseconds per trial")
    for axes in (memory, pace):
        axes.set_ylim(bottom=0)
        axes.legend(frameon=False)
    figure.savefig(path, dpi=150)


def main() -> None:
    """Measure, print a table, record it, draw it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--without-mlflow", action="store_true", help="leave out sending and the report")
    parser.add_argument("--figure", type=Path, default=FIGURE)
    options = parser.parse_args()
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 (Ray reads it so): workers as nice as this process, not more
    console = Console(quiet=True)
    with tempfile.TemporaryDirectory() as folder:
        storage = Path(folder) / "studies"
        result = {"machine": describe_machine(), **run(options.trials, storage, console)}
        if not options.without_mlflow:
            result |= sync(options.trials, storage, console)
            result |= report(storage, Path(folder) / "reports")
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"many_trials_{result['machine']['date']}.json"
    path.write_text(json.dumps(result, indent=2) + "\n")
    for key in ("run_samples", "sync_samples"):
        for row in by_tenths(result[key], result["trials"]) if key in result else []:
            print(key, {name: round(value, 2) for name, value in row.items()})
    print({name: value for name, value in result.items() if name.endswith(("seconds", "megabytes"))})
    draw(result, options.figure)
    print(f"Recorded in {path}, drawn in {options.figure}")


if __name__ == "__main__":
    main()
