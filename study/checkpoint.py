"""A trial's state at the end of an epoch → one file beside its record, and back.

The file is one line of JSON (kind, trial, origin, epoch, SHA-256) and then tensors as `torch.save` writes them. It
appears whole or not at all, and is read with `weights_only`, so that nothing in it is ever run. A trial may go
on in any other pack: on a CPU with one thread it is bitwise independent of it, on a GPU but for the last bits.

The driver asks for the epoch alone and does without torch, which is imported with the first tensor.
"""

import dataclasses
import hashlib
import io
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from study.study_folder import CHECKPOINT_SECONDS, read_bytes, write_whole

KIND = "depth-trainability checkpoint 1"
LARGEST_SHARE = 0.05
"""Writing checkpoints takes at most this share of a pack's time: large packs on slow storage write them less often."""
LONGEST_HEADER = 1000


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """Where a trial stands: `epoch` epochs are done; `state` holds its tensors and numbers by name.

    `origin` names the training that it belongs to (see `trial_record`): one that began anew has another.
    """

    trial_id: str
    origin: str
    epoch: int
    state: Mapping[str, Any]


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Replace the file at `path`; when this returns, it is on the disk. Raises OSError when it cannot be written."""
    import torch

    buffer = io.BytesIO()
    torch.save(dict(checkpoint.state), buffer)
    payload = buffer.getbuffer()
    header = {
        "kind": KIND,
        "trial_id": checkpoint.trial_id,
        "origin": checkpoint.origin,
        "epoch": checkpoint.epoch,
        "sha256": _digest(checkpoint.trial_id, checkpoint.origin, checkpoint.epoch, payload),
    }
    write_whole(path, json.dumps(header).encode() + b"\n", payload)


def read_epoch(path: Path) -> int:
    """Return the epoch that a checkpoint claims to be of, without reading the tensors; 0 when there is none to read."""
    try:
        with path.open("rb") as file:
            epoch = _parse_header(file.readline(LONGEST_HEADER))["epoch"]
    except (OSError, ValueError):
        return 0
    return epoch if isinstance(epoch, int) else 0


def read_checkpoint(path: Path, trial_id: str, origin: str) -> Checkpoint | None:
    """Return a trial's checkpoint; None when there is none.

    Raises:
        ValueError: it is damaged, or of another trial, training or program: in one line.
        StorageError: it cannot be read now, so that nobody knows.
        MemoryError: there is no room for it now.
    """
    import torch

    try:
        header_line, _, payload = read_bytes(path).partition(b"\n")
    except FileNotFoundError:
        return None
    try:
        header = _parse_header(header_line)
        if header["sha256"] != _digest(header["trial_id"], header["origin"], header["epoch"], payload):
            raise ValueError("its checksum is wrong")
        if (header["trial_id"], header["origin"]) != (trial_id, origin):
            raise ValueError("it belongs to another training")
        state = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    except Exception as error:  # whatever lies there instead, the trial can begin again
        if isinstance(error, MemoryError) or "allocate memory" in str(error):  # the latter is torch's
            raise MemoryError(f"no room for {path.name}") from None
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ValueError(f"checkpoint: {path.name} cannot be used ({reason})") from None
    return Checkpoint(trial_id, origin, header["epoch"], state)


class CheckpointSchedule:
    """Says when the next checkpoint is due: `seconds` after the last, or later where they cost much; 0: always.

    `clock` returns seconds and never goes back.
    """

    def __init__(self, seconds: float = CHECKPOINT_SECONDS, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds, self.clock = seconds, clock
        self.next = clock() + seconds

    def is_due(self) -> bool:
        """Say whether enough time has gone by since the last one."""
        return self.clock() >= self.next

    def note(self, started: float) -> None:
        """Plan the next one; the last began at `started` and ends now."""
        now = self.clock()
        self.next = now + (max(self.seconds, (now - started) / LARGEST_SHARE) if self.seconds else 0.0)


def _parse_header(line: bytes) -> dict[str, Any]:
    header = json.loads(line)
    if not isinstance(header, dict) or header.get("kind") != KIND:
        raise ValueError("it is no checkpoint of this program's version")
    if set(header) != {"kind", "trial_id", "origin", "epoch", "sha256"}:
        raise ValueError("its first line is incomplete")
    return header


def _digest(trial_id: str, origin: str, epoch: int, payload: bytes | memoryview) -> str:
    digest = hashlib.sha256(f"{trial_id} {origin} {epoch}\n".encode())
    digest.update(payload)
    return digest.hexdigest()
