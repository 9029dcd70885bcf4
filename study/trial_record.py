"""What a trial measured → an append-only file in the study's storage, fsynced before anything is sent elsewhere.

One JSON object per line: a start (config and environment), one line per epoch, an end. A trial is finished when its
end line is there. MLflow is fed from these files, so a tracking server that is down delays and never loses.

Every line carries its attempt. A worker that was given up may still be alive and write while another one trains its
trial again; lines of another attempt than the first line's are passed over. An attempt that goes on from a checkpoint
takes over the lines up to there, in a new file that replaces the earlier one at once: every epoch is there once.
"""

import dataclasses
import io
import json
import os
import secrets
import time
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from study import run_log_schema as schema
from study.study_folder import StorageError, read_bytes, write_whole
from study.study_folder import StudyFolder as StudyFolder
from study.trial_config import TrialConfig

if TYPE_CHECKING:
    from study.train_loop import MemberEpoch


class TrialRecord:
    """Writes one trial's record: from the beginning, or on from an epoch of an earlier attempt.

    `origin` names a training from its beginning through all attempts that went on with it; `attempts` counts those and
    the ones that began anew. `losses` is how many of this sweep's attempts were lost in a row before a checkpoint.
    `pack` are tags that say how the pack was chosen; unlike `environment` they may change on the way.
    """

    def __init__(
        self,
        path: Path,
        trial: TrialConfig,
        pack_id: str,
        environment: Mapping[str, str],
        *,
        sweep_id: str = "",
        resume_epoch: int = 0,
        losses: int = 0,
        notice: str = "",
        pack: Mapping[str, str] | None = None,
    ) -> None:
        """Replace whatever is there at once by a start line and, if it goes on, by the epochs up to `resume_epoch`."""
        self.path, self.ended, self.sweep_id, self.attempt = path, False, sweep_id, secrets.token_hex(4)
        earlier = read_start(path) or {}
        kept = [line for line, _ in read_lines(path)][1:] if resume_epoch else []
        kept = [line for line in kept if line["kind"] == "epoch" and line["epoch"] <= resume_epoch]
        self.last_time_ms = kept[-1]["time_ms"] if kept else 0
        start: dict[str, Any] = {
            "kind": "start",
            "attempt": self.attempt,
            "trial_id": trial.trial_id,
            "name": trial.name,
            "pack_id": pack_id,
            "config": dataclasses.asdict(trial),
            "environment": dict(environment),
            "origin": earlier["origin"] if kept else self.attempt,
            "attempts": earlier.get("attempts", 1 if earlier else 0) + 1,
            "sweep": sweep_id,
            "resume_epoch": resume_epoch,
            "losses": losses,
            "notice": notice,
            "pack": dict(pack or {}),
            "time_ms": earlier["time_ms"] if kept else self._now_ms(),
        }
        self.origin: str = start["origin"]
        lines = [start, *({**line, "attempt": self.attempt} for line in kept)]
        try:
            write_whole(path, b"".join(map(_as_bytes, lines)))
        except OSError as error:
            raise StorageError.from_os(path, error) from None

    def add_epoch(self, measured: "MemberEpoch") -> None:
        """Append one epoch; a diverged one ends the trial."""
        metrics = schema.finite(measured.metrics)
        epoch = {"kind": "epoch", "epoch": measured.epoch, "metrics": metrics, "layers": measured.layers}
        self._append(epoch)
        if measured.diverged:
            self.end(schema.STATUS_DIVERGED)

    def end(self, status: str, error: str = "") -> None:
        """Append the end, once: a trial that has ended keeps its first ending."""
        if not self.ended:
            self._append({"kind": "end", "status": status, "error": error, "sweep": self.sweep_id})
            self.ended = True

    def is_current(self) -> bool:
        """Say whether this is still the trial's record: no other worker has begun one in its place."""
        start = read_start(self.path)
        return start is None or start.get("attempt") == self.attempt

    def _append(self, line: dict[str, Any]) -> None:
        _append_line(self.path, {**line, "attempt": self.attempt, "time_ms": self._now_ms()})

    def _now_ms(self) -> int:
        """Return the time, which never goes back within a record, whatever the clock does."""
        self.last_time_ms = max(self.last_time_ms, time.time_ns() // 1_000_000)
        return self.last_time_ms


def end_as_failed(
    path: Path, trial: TrialConfig, pack_id: str, environment: Mapping[str, str], error: str, sweep_id: str = ""
) -> None:
    """End the record that a lost worker left behind, keeping its complete lines; one that ended stays."""
    lines = list(read_lines(path))
    if not lines:
        TrialRecord(path, trial, pack_id, environment, sweep_id=sweep_id).end(schema.STATUS_FAILED, error)
    elif all(line["kind"] != "end" for line, _ in lines):
        try:
            os.truncate(path, lines[-1][1])
        except OSError as problem:
            raise StorageError.from_os(path, problem) from None
        end = {"kind": "end", "status": schema.STATUS_FAILED, "error": error, "sweep": sweep_id}
        time_ms = max(lines[-1][0]["time_ms"], time.time_ns() // 1_000_000)
        _append_line(path, {**end, "attempt": lines[0][0].get("attempt"), "time_ms": time_ms})


def _append_line(path: Path, line: dict[str, Any]) -> None:
    """Write one line so that it is on the disk when this returns; raises StorageError when it cannot be."""
    try:
        with path.open("ab") as file:
            file.write(_as_bytes(line))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise StorageError.from_os(path, error) from None


def _as_bytes(line: dict[str, Any]) -> bytes:
    return (json.dumps(line, allow_nan=False) + "\n").encode()


def read_start(path: Path) -> dict[str, Any] | None:
    """Return a record's first line; None when there is none."""
    return next((line for line, _ in read_lines(path)), None)


def read_lines(path: Path, offset: int = 0) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield the complete lines from a byte offset on, each with the offset behind it; nothing when there is no file.

    A last line that was cut off by a crash is left out, and so are the lines of other attempts and whatever follows the
    end. A line that is none of a record ends it, so that a trial with a hole is run again.

    Raises StorageError when the file cannot be read.
    """
    try:
        file = io.BytesIO(read_bytes(path))
    except FileNotFoundError:
        return
    first = _parse_line(file.readline())
    if first is None:
        return
    file.seek(offset)
    for raw in file:
        line = _parse_line(raw)
        if line is None:
            return
        offset += len(raw)
        if line.get("attempt") == first.get("attempt"):
            yield line, offset
            if line["kind"] == "end":
                return


LINE_FIELDS: dict[str, dict[str, type]] = {
    "start": {"trial_id": str, "name": str, "pack_id": str, "config": dict, "environment": dict, "time_ms": int},
    "epoch": {"epoch": int, "metrics": dict, "layers": list, "time_ms": int},
    "end": {"status": str, "error": str, "time_ms": int},
}
"""What a line of each kind holds at least."""


def _parse_line(raw: bytes) -> dict[str, Any] | None:
    """Return a line's content, or None when it was cut off or is no line of a record."""
    if not raw.endswith(b"\n"):
        return None
    try:
        line: Any = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    if not isinstance(line, dict) or not isinstance(line.get("kind"), str):
        return None
    fields = LINE_FIELDS.get(line["kind"], {})
    return line if all(isinstance(line.get(name), kind) for name, kind in fields.items()) else None


def read_status(path: Path) -> str | None:
    """Return how a trial ended, or None when it has not."""
    return read_end(path).get("status")


def has_ended(path: Path, sweep_id: str) -> bool:
    """Say whether nothing is left to be done for a trial in this sweep; one that failed earlier is tried again."""
    return is_an_ending(read_end(path), sweep_id)


def is_an_ending(end: Mapping[str, Any], sweep_id: str) -> bool:
    """Say the same of a record's last line, as `read_end` returns it."""
    return end.get("status") in schema.ENDED_STATUSES or (bool(end) and end.get("sweep") == sweep_id)


def read_environment(path: Path) -> dict[str, str]:
    """Return the tags that a trial was started with; empty when there is no record."""
    return (read_start(path) or {}).get("environment", {})


def check_same_data(study: str, earlier: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Raise ValueError when a study was run on other images before: its numbers would not be comparable.

    `earlier` and `now` are tags; a record without a checksum fits all data.
    """
    known, current = earlier.get(schema.TAG_DATA_CHECKSUM), now[schema.TAG_DATA_CHECKSUM]
    if known not in (None, current):
        raise ValueError(
            f"data: study {study!r} was run on {earlier.get(schema.TAG_DATA)} (checksum {known}), "
            f"now it is {now[schema.TAG_DATA]} ({current}); choose another --name"
        )


def read_error(path: Path) -> str:
    """Return why a trial failed; empty when it did not."""
    return read_end(path).get("error", "")


def read_end(path: Path) -> dict[str, Any]:
    """Return a record's last line; empty when the trial has not ended."""
    return next((line for line, _ in read_lines(path) if line["kind"] == "end"), {})


def describe_error(error: BaseException) -> str:
    """Return a traceback as text, its last 4,000 characters."""
    return "".join(traceback.format_exception(error))[-4000:]
