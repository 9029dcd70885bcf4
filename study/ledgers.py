"""Which trials a study wants, and which of them MLflow holds → two append-only files beside the records, and back.

The records are the truth. These files only spare a reader from asking the search space or MLflow: what is missing from
them is planned, or sent, again.
"""

import dataclasses
import json
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from study.study_folder import StorageError, StudyFolder
from study.trial_config import TrialConfig
from study.trial_record import read_start

PLAN_FILE, SENT_FILE = "plan.jsonl", "sent.jsonl"


def note_planned(folder: StudyFolder, trials: Sequence[TrialConfig]) -> None:
    """Add trials that the plan does not name yet; raises StorageError when it cannot be written."""
    known = read_planned(folder)
    lines = [
        {"trial_id": trial.trial_id, "name": trial.name, "config": dataclasses.asdict(trial)}
        for trial in trials
        if trial.trial_id not in known
    ]
    _append(folder.path / PLAN_FILE, lines)


def read_planned(folder: StudyFolder) -> dict[str, dict[str, Any]]:
    """Return the lines of the plan by trial_id: name and config."""
    return {line["trial_id"]: line for line in _read(folder.path / PLAN_FILE, ("trial_id", "name", "config"))}


def note_sent(folder: StudyFolder, store: str, attempts: Mapping[str, str]) -> None:
    """Add trials whose ended records a store holds completely, with their attempts; `store` is shown to people."""
    lines = [{"store": store, "trial_id": trial_id, "attempt": attempt} for trial_id, attempt in attempts.items()]
    _append(folder.path / SENT_FILE, lines)


def read_sent(folder: StudyFolder) -> dict[str, dict[str, str]]:
    """Return, by store and trial_id, the newest attempt that was sent completely."""
    sent: dict[str, dict[str, str]] = defaultdict(dict)
    for line in _read(folder.path / SENT_FILE, ("store", "trial_id", "attempt")):
        sent[line["store"]][line["trial_id"]] = line["attempt"]
    return dict(sent)


def known_as_sent(folder: StudyFolder, store: str, trial_ids: Iterable[str]) -> set[str]:
    """Return those trials of which, by the ledger, a store holds the attempt that the record is of."""
    attempts = read_sent(folder).get(store, {})
    begun = ((trial_id, read_start(folder.record_path(trial_id))) for trial_id in trial_ids if trial_id in attempts)
    return {trial_id for trial_id, start in begun if start and start.get("attempt") == attempts[trial_id]}


def _append(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    if not lines:
        return
    try:
        with path.open("ab") as file:
            # A line that a crash cut off must not swallow the next one.
            text = "".join(json.dumps(line) + "\n" for line in lines)
            file.write(("\n" + text if _is_cut_off(path) else text).encode())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise StorageError.from_os(path, error) from None


def _is_cut_off(path: Path) -> bool:
    with path.open("rb") as file:
        if not file.seek(0, os.SEEK_END):
            return False
        file.seek(-1, os.SEEK_END)
        return file.read() != b"\n"


def _read(path: Path, fields: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield the lines that are whole."""
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return
    for raw in lines:
        try:
            line = json.loads(raw)
        except ValueError:
            continue
        if isinstance(line, dict) and all(field in line for field in fields):
            yield line
