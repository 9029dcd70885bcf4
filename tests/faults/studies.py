"""Real studies, small enough to be killed again and again: started as a user starts them, compared number by number."""

import collections
import contextlib
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlflow
import psutil

from study import run_log_schema as schema
from study.trial_record import StudyFolder, read_lines

ROOT = Path(__file__).parent.parent.parent
SMALL = "width=8, batch_size=32, probe_size=16, probe_vectors=2"
SPACES = f"""
from search_spaces.axes import grid

slow = dict(width=8, batch_size=2, probe_size=16, probe_vectors=2)  # many steps, so that there is time for faults

def study():
    return grid(depth=[3, 8], dilution=[0, 1], seed=[0, 1], epochs=150, **slow)

def study_of_minutes():
    return grid(depth=[3, 8], dilution=[0, 1], seed=[0, 1], epochs=1000, **slow)

def short():
    return grid(depth=[3, 20], seed=[0, 1], epochs=40, {SMALL})

def long():
    return grid(depth=40, seed=[0, 1, 2, 3], epochs=2000, **slow)

def many():
    return grid(depth=3, width=4, seed=list(range(200)), epochs=50, batch_size=64, probe_size=16, probe_vectors=2)
"""
DATA = "synthetic:200"


def environment(folder: Path) -> dict[str, str]:
    """What a command is run with: this code, and none of the user's settings."""
    kept = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    ours = {"PYTHONPATH": str(ROOT), "COLUMNS": "140", "RAY_AUTH_MODE": "disabled"}
    # Ray makes its workers yield to everything else, which on a busy machine means that they hardly run.
    return {**kept, **ours, "RAY_worker_niceness": "0"}


def make_folder(folder: Path) -> Path:
    """Put the spaces into a user's folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "spaces.py").write_text(SPACES)
    return folder


def start(folder: Path, space: str, *options: str) -> subprocess.Popen[str]:
    """Start `python -m study run` in a process group of its own, with a checkpoint after every epoch."""
    command = [sys.executable, "-m", "study", "run", f"spaces.py:{space}", "--data", DATA, "--checkpoint-seconds", "0"]
    return subprocess.Popen(
        [*command, *options], cwd=folder, env=environment(folder), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, start_new_session=True,
    )  # fmt: skip


def finish(process: subprocess.Popen[str], status: int = 0, seconds: float = 900) -> str:
    """Wait for a command; return its output. It must end as expected, without a traceback."""
    output, errors = process.communicate(timeout=seconds)
    assert process.returncode == status, output + errors
    assert "Traceback" not in output + errors, output + errors
    return output + errors


def command(folder: Path, *arguments: str, status: int = 0) -> str:
    """Run `python -m study …` to its end; return its output."""
    return finish(
        subprocess.Popen(
            [sys.executable, "-m", "study", *arguments], cwd=folder, env=environment(folder),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        ),
        status,
    )  # fmt: skip


def study_folder(folder: Path, name: str) -> StudyFolder:
    """Where a study of this user lies."""
    return StudyFolder(folder / "studies", name)


def records(place: StudyFolder) -> dict[str, list[dict[str, Any]]]:
    """All lines of all records, by trial_id."""
    return {path.stem: [line for line, _ in read_lines(path)] for path in sorted(place.path.glob("trials/*.jsonl"))}


def epochs_recorded(place: StudyFolder) -> int:
    """How many epochs stand in the records of a study."""
    return sum(line["kind"] == "epoch" for lines in records(place).values() for line in lines)


def numbers(place: StudyFolder) -> dict[str, list[Any]]:
    """Everything that was measured, and how trials ended, without times."""
    return {
        trial_id: [lines[0]["config"] if lines else None]
        + [
            (
                line["kind"],
                line.get("epoch"),
                {name: value for name, value in line.get("metrics", {}).items() if name != schema.EPOCH_SECONDS},
                line.get("layers"),
                line.get("status"),
            )
            for line in lines[1:]
        ]
        for trial_id, lines in records(place).items()
    }


def expect_whole(place: StudyFolder, tracking_uri: str, trials: int) -> int:
    """Check that every trial has one finished run with exactly what its record holds; return the count of points."""
    client = mlflow.MlflowClient(tracking_uri)
    runs = client.search_runs([client.get_experiment_by_name(place.name).experiment_id], max_results=10000)
    found = records(place)
    assert len(found) == trials
    assert collections.Counter(run.data.tags["trial_id"] for run in runs) == dict.fromkeys(found, 1)
    points = 0
    for run in runs:
        lines = found[run.data.tags["trial_id"]]
        assert run.info.status == "FINISHED"
        assert run.data.params == {name: str(value) for name, value in lines[0]["config"].items()}
        epochs = [line for line in lines if line["kind"] == "epoch"]
        assert [line["epoch"] for line in epochs] == list(range(lines[0]["config"]["epochs"] + 1))
        for name in schema.EPOCH_METRICS:
            history = client.get_metric_history(run.info.run_id, name)
            expected = [
                (line["epoch"], line["metrics"][name], line["time_ms"]) for line in epochs if name in line["metrics"]
            ]
            assert sorted((point.step, point.value, point.timestamp) for point in history) == expected
            points += len(history)
    assert not list(place.path.glob("checkpoints/*"))
    return points


def store(folder: Path) -> str:
    """The tracking store that a study uses by default."""
    return f"sqlite:///{folder}/studies/mlflow.db"


def train_workers(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Ray's workers that train a pack of this driver now."""
    return [child for child in children(process) if re.match(r"ray::\w+\.train", _command_line(child))]


def children(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """All processes below one; none when it is gone."""
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _command_line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def end_leftovers(processes: list[psutil.Process]) -> int:
    """Wait for what a killed driver has left behind, then end what does not end by itself; return how many."""
    _, alive = psutil.wait_procs(processes, timeout=5)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    return len(alive)


def wait_for(condition: Callable[[], bool], seconds: float = 120) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.1)


def free_port() -> int:
    """A port of this machine that nothing listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextlib.contextmanager
def tracking_server(folder: Path, port: int, backend: str) -> Iterator[subprocess.Popen[bytes]]:
    """An `mlflow server` on this machine; killed with all its processes at the end, if not before."""
    log = (folder / "server.log").open("ab")
    server = subprocess.Popen(
        [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
         "--backend-store-uri", backend, "--artifacts-destination", str(folder / "artifacts")],
        cwd=folder, stdout=log, stderr=log, start_new_session=True,
        env={**environment(folder), "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
    )  # fmt: skip
    try:
        wait_for(lambda: _answers(port))
        yield server
    finally:
        kill_group(server)
        log.close()


def kill_group(server: subprocess.Popen[bytes]) -> None:
    """SIGKILL a server and its workers."""
    processes = [*psutil.Process(server.pid).children(recursive=True)] if server.poll() is None else []
    server.kill()
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    server.wait()


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
