"""What a trial measured → an append-only file in the study's storage, fsynced before anything is sent elsewhere.

One JSON object per line: a start (config and environment), one line per epoch, an end. A trial is finished when its
end line is there. MLflow is fed from these files, so a tracking server that is down delays and never loses.

Every line carries its attempt. A worker that was given up may still be alive and write while another one trains its
trial again; lines of another attempt than the first line's are passed over.
"""

import dataclasses
import json
import os
import secrets
import tempfile
import time
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from study import run_log_schema as schema
from study.train_loop import MemberEpoch
from study.trial_config import TrialConfig


@dataclasses.dataclass(frozen=True)
class StudyFolder:
    """Where one study keeps its records: `storage`/`name`/trials/<trial_id>.jsonl."""

    storage: Path
    name: str

    @property
    def path(self) -> Path:
        """The folder of this study."""
        return self.storage / self.name

    def record_path(self, trial_id: str) -> Path:
        """The record of one trial."""
        return self.path / "trials" / f"{trial_id}.jsonl"

    def make_key(self) -> str:
        """Return random text that tells this folder from others of its name, made by the first driver that asks."""
        path = self.path / "key"
        if not path.exists():
            draft = path.with_suffix(".part")
            draft.write_text(secrets.token_hex(8) + "\n")
            draft.replace(path)
        return path.read_text().strip()

    def create(self) -> None:
        """Make the folders; raises ValueError when they cannot be written."""
        try:
            (self.path / "trials").mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.path / "trials"):
                pass
        except OSError as error:
            raise ValueError(
                f"storage: cannot write to {self.path} ({error.strerror}); choose another folder with --storage"
            ) from None


class TrialRecord:
    """Writes one trial's record, from the beginning: an unfinished earlier attempt is replaced."""

    def __init__(self, path: Path, trial: TrialConfig, pack_id: str, environment: dict[str, str]) -> None:
        self.path, self.ended, self.attempt = path, False, secrets.token_hex(4)
        start = {
            "kind": "start",
            "attempt": self.attempt,
            "trial_id": trial.trial_id,
            "name": trial.name,
            "pack_id": pack_id,
            "config": dataclasses.asdict(trial),
            "environment": environment,
        }
        _write_line(path, start, mode="w")

    def add_epoch(self, measured: MemberEpoch) -> None:
        """Append one epoch; a diverged one ends the trial."""
        metrics = schema.finite(measured.metrics)
        epoch = {"kind": "epoch", "epoch": measured.epoch, "metrics": metrics, "layers": measured.layers}
        _write_line(self.path, {**epoch, "attempt": self.attempt})
        if measured.diverged:
            self.end(schema.STATUS_DIVERGED)

    def end(self, status: str, error: str = "") -> None:
        """Append the end, once: a trial that has ended keeps its first ending."""
        if not self.ended:
            _write_line(self.path, {"kind": "end", "status": status, "error": error, "attempt": self.attempt})
            self.ended = True


def end_as_failed(path: Path, trial: TrialConfig, pack_id: str, environment: dict[str, str], error: str) -> None:
    """End the record that a lost worker or an error left behind, keeping its complete lines; one that ended stays."""
    lines = list(read_lines(path))
    if not lines:
        TrialRecord(path, trial, pack_id, environment).end(schema.STATUS_FAILED, error)
    elif all(line["kind"] != "end" for line, _ in lines):
        os.truncate(path, lines[-1][1])
        attempt = lines[0][0].get("attempt")
        _write_line(path, {"kind": "end", "status": schema.STATUS_FAILED, "error": error, "attempt": attempt})


def _write_line(path: Path, line: dict[str, Any], mode: str = "a") -> None:
    """Write one line, stamped with the time, so that it is on the disk when this returns."""
    with path.open(mode, encoding="utf-8") as file:
        file.write(json.dumps({**line, "time_ms": time.time_ns() // 1_000_000}, allow_nan=False) + "\n")
        file.flush()
        os.fsync(file.fileno())


def read_lines(path: Path, offset: int = 0) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield the complete lines from a byte offset on, each with the offset behind it; nothing when there is no file.

    A last line that was cut off by a crash is left out, and so are the lines of other attempts and whatever follows the
    end. A line that cannot be read ends the record, so that a trial with a hole is run again.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
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


def _parse_line(raw: bytes) -> dict[str, Any] | None:
    """Return a line's content, or None when it was cut off."""
    if not raw.endswith(b"\n"):
        return None
    try:
        line: dict[str, Any] = json.loads(raw)
    except ValueError:
        return None
    return line


def read_status(path: Path) -> str | None:
    """Return how a trial ended, or None when it has not."""
    return _read_end(path).get("status")


def read_environment(path: Path) -> dict[str, str]:
    """Return the tags that a trial was started with; empty when there is no record."""
    return next((line["environment"] for line, _ in read_lines(path)), {})


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
    return _read_end(path).get("error", "")


def _read_end(path: Path) -> dict[str, Any]:
    return next((line for line, _ in read_lines(path) if line["kind"] == "end"), {})


def describe_error(error: BaseException) -> str:
    """Return a traceback as text, its last 4,000 characters."""
    return "".join(traceback.format_exception(error))[-4000:]
