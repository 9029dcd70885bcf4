"""A study's name → where its trials stand, read from its records alone; needs neither Ray nor MLflow nor the space."""

import collections
import dataclasses
import functools
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from rich.console import Console

from study import run_log_schema as schema
from study.console_tables import make_plain_table, print_whole
from study.ledgers import read_planned, read_sent
from study.next_commands import sync_command
from study.progress import format_duration
from study.study_folder import StudyFolder
from study.tracking_uri import default_tracking_uri, sqlite_path, without_secrets
from study.trial_config import unknown_name
from study.trial_record import read_lines

UNFINISHED, NOT_BEGUN = "unfinished", "not begun"
SHOWN = 10
"""Unfinished and failed trials that are named one by one."""


@dataclasses.dataclass(frozen=True)
class TrialState:
    """Where one trial stands; `status` is an ending, UNFINISHED or NOT_BEGUN."""

    trial_id: str
    name: str
    status: str
    epochs: int
    epochs_done: int = 0
    attempts: int = 0
    """How often it was begun, or gone on with from a checkpoint."""
    attempt: str = ""
    last_news_ms: int = 0
    notice: str = ""
    error: str = ""

    @property
    def begun_again(self) -> int:
        """How often it was begun again or gone on with: after an interruption, a lost worker, a failure, a halved pack.

        What is unfinished may be in training just now: that it was interrupted shows when it is begun again.
        """
        return max(self.attempts - 1, 0)


def show_status(storage: Path, name: str, as_json: bool, console: Console) -> int:
    """Print the status of a study; raises ValueError when there is none of that name."""
    folder = find_study(storage, name)
    states, running, sent = read_states(folder), is_running(folder), read_sent(folder)
    if as_json:
        print(json.dumps(_describe(states, running, sent), indent=2))
    else:
        _print(folder, states, running, sent, console)
    return 0


def find_study(storage: Path, name: str) -> StudyFolder:
    """Return the folder of a study; raises ValueError when there is none of that name in the storage."""
    folder = StudyFolder(storage.resolve(), schema.check_study_name(name))
    if not (folder.path / "trials").is_dir():
        known = tuple(sorted(trials.parent.name for trials in folder.storage.glob("*/trials")))
        if not known:
            raise ValueError(f"name: there is no study in {folder.storage}; give the --storage of {name!r}")
        raise ValueError(unknown_name(f"name: study in {folder.storage}", name, known, also="give its --storage"))
    return folder


def read_states(folder: StudyFolder) -> list[TrialState]:
    """Return where every trial stands that was planned or has a record."""
    planned = read_planned(folder)
    recorded = {path.stem for path in (folder.path / "trials").glob("*.jsonl")}
    return [
        _read_state(folder.record_path(trial_id), trial_id, planned.get(trial_id))
        for trial_id in [*planned, *sorted(recorded - set(planned))]
    ]


def _read_state(path: Path, trial_id: str, planned: Mapping[str, Any] | None) -> TrialState:
    start: dict[str, Any] = {}
    last: dict[str, Any] = {}
    epochs_done = 0
    for last, _ in read_lines(path):
        start = start or last
        if last["kind"] == "epoch":
            epochs_done = last["epoch"]
    about = start or planned
    if not about:
        return TrialState(trial_id, "(its record cannot be read)", NOT_BEGUN, 0)
    return TrialState(
        trial_id=trial_id,
        name=about["name"],
        status=last.get("status", UNFINISHED) if start else NOT_BEGUN,
        epochs=about["config"]["epochs"],
        epochs_done=epochs_done,
        attempts=start.get("attempts", 1) if start else 0,
        attempt=start.get("attempt", ""),
        last_news_ms=last.get("time_ms", 0),
        notice=start.get("notice", ""),
        error=last.get("error", ""),
    )


def is_running(folder: StudyFolder) -> bool:
    """Say whether a driver holds the study, as far as this machine can see."""
    try:
        FileLock(folder.driver_lock).acquire(timeout=0).lock.release()
    except Timeout:
        return True
    except (NotImplementedError, OSError):  # no locks, or no right to take one
        return (folder.path / "driver").exists()
    return False


def _describe(states: list[TrialState], running: bool, sent: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    counts = collections.Counter(state.status for state in states)
    return {
        "running": running,
        "trials": len(states),
        "by_status": {status: counts[status] for status in _statuses()},
        "epochs_done": sum(state.epochs_done for state in states),
        "epochs": sum(state.epochs for state in states),
        "begun_again": sum(state.begun_again for state in states),
        "unsent": {store: len(_unsent(states, attempts)) for store, attempts in sent.items()},
        "unfinished": [dataclasses.asdict(state) for state in states if state.status == UNFINISHED],
        "failed": [dataclasses.asdict(state) for state in states if state.status == schema.STATUS_FAILED],
    }


def _print(
    folder: StudyFolder,
    states: list[TrialState],
    running: bool,
    sent: Mapping[str, Mapping[str, str]],
    console: Console,
) -> None:
    facts = _describe(states, running, sent)
    tell = functools.partial(console.print, highlight=False, markup=False, soft_wrap=True)
    tell(f"Study {folder.name} in {folder.storage}: {'being run' if running else 'not being run'}.")
    table = make_plain_table()
    for heading in ("trials", *_statuses(), "epochs done", "begun again"):
        table.add_column(heading, justify="right")
    by_status = [str(count) for count in facts["by_status"].values()]
    epochs = f"{facts['epochs_done']} of {facts['epochs']}"
    table.add_row(str(len(states)), *by_status, epochs, str(facts["begun_again"]))
    print_whole(table, console)
    cut_off = [state for state in states if state.status == UNFINISHED and _was_sent(state, sent)]
    for state in cut_off[:SHOWN]:
        text = f"cut off: {state.name}: its record ends after epoch {state.epochs_done} of {state.epochs}"
        tell(f"{text}, MLflow has all of it")
    for state in [state for state in states if state.status == UNFINISHED and state not in cut_off][:SHOWN]:
        age = format_duration(max(time.time() - state.last_news_ms / 1000, 0))
        text = f"unfinished: {state.name}: epoch {state.epochs_done} of {state.epochs}, last news {age} ago"
        tell(text + (f"; {state.notice}" if state.notice else ""))
    for state in [state for state in states if state.status == schema.STATUS_FAILED][:SHOWN]:
        reason = state.error.strip().rpartition("\n")[2]
        tell(f"failed: {state.name}: {reason}")
    usual = default_tracking_uri(folder.storage)
    usual = without_secrets(usual, usual)
    sync_to_usual = sync_command(folder, usual)
    for store, unsent in facts["unsent"].items():
        waiting = f"all but {unsent}" if running else f"{unsent} wait for: {sync_command(folder, store)}"
        told = waiting if unsent else "all of them"
        if not running and is_gone(store):  # removed, or moved with the storage
            has_all = store != usual and facts["unsent"].get(usual) == 0
            told = "that file is gone" + ("" if has_all else f"; to send all again: {sync_to_usual}")
        tell(f"Ended trials sent to {store}: {told}")
    if running:
        tell("The driver sends to MLflow while it runs, and notes at its end what it sent.")
    elif not sent and any(state.error or state.status in schema.ENDED_STATUSES for state in states):
        tell(f"Nothing was sent to MLflow yet: {sync_to_usual}")


def _was_sent(state: TrialState, sent: Mapping[str, Mapping[str, str]]) -> bool:
    """Whether a store that is still there has the whole of a record: if it has not ended, it was cut off since."""
    return any(attempts.get(state.trial_id) == state.attempt and not is_gone(store) for store, attempts in sent.items())


def is_gone(store: str) -> bool:
    """Say whether a store is a database file of this machine that is not there."""
    path = sqlite_path(store)
    try:
        return store.startswith("sqlite:///") and path.is_absolute() and not path.exists()
    except OSError:  # nobody may look there
        return False


def _unsent(states: list[TrialState], attempts: Mapping[str, str]) -> list[str]:
    ended = [state for state in states if state.status not in (UNFINISHED, NOT_BEGUN)]
    return [state.trial_id for state in ended if attempts.get(state.trial_id) != state.attempt]


def _statuses() -> tuple[str, ...]:
    return (*schema.ENDED_STATUSES, schema.STATUS_FAILED, UNFINISHED, NOT_BEGUN)
