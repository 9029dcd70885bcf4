"""A storage and a study's name → the places of its records, checkpoints and locks."""

import contextlib
import dataclasses
import errno
import os
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

CHECKPOINT_SECONDS = 10.0
"""Training time between two checkpoints of a pack, at least."""
FILE_SYSTEM_ROOM = 1 << 20
"""Bytes that a study must be able to write, at least: a few records' lines, and what file systems need beside them."""


class StorageError(Exception):
    """The storage of a study cannot be written, or read, any more: one line that says why and what to do."""

    @classmethod
    def from_os(cls, path: Path, error: OSError, doing: str = "write") -> "StorageError":
        """Say which file could not be written, or read, and why."""
        remedy = "make room or mend it" if doing == "write" else "mend it"
        return cls(f"storage: cannot {doing} {path} ({error.strerror}); {remedy}")


def read_bytes(path: Path) -> bytes:
    """Return a file's content.

    Raises:
        FileNotFoundError: there is none.
        StorageError: it cannot be read, also not once more where a server of NFS had it replaced meanwhile.
    """
    try:
        try:
            return path.read_bytes()
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
        return path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise StorageError.from_os(path, error, doing="read") from None


@dataclasses.dataclass(frozen=True)
class StudyFolder:
    """Where one study keeps its records: `storage`/`name`/trials/<trial_id>.jsonl."""

    storage: Path
    name: str

    @property
    def path(self) -> Path:
        """The folder of this study."""
        return self.storage / self.name

    @property
    def _key_path(self) -> Path:
        return self.path / "key"

    @property
    def driver_lock(self) -> Path:
        """Held by the one driver that runs this study, or sends its records."""
        return self.path / ".driver.lock"

    @property
    def tracking_lock(self) -> Path:
        """Held while a tracking database is opened: two drivers that make one in its place at once spoil it."""
        return self.storage / ".tracking.lock"

    def record_path(self, trial_id: str) -> Path:
        """The record of one trial."""
        return self.path / "trials" / f"{trial_id}.jsonl"

    def checkpoint_path(self, trial_id: str) -> Path:
        """The checkpoint of one trial that has not ended."""
        return self.path / "checkpoints" / f"{trial_id}.checkpoint"

    def make_key(self) -> str:
        """Return random text that tells this folder from others of its name, made by the first driver that asks.

        Raises StorageError when it cannot be written.
        """
        try:
            if not self._key_path.exists():
                write_whole(self._key_path, f"{secrets.token_hex(8)}\n".encode())
            return self._key_path.read_text().strip()
        except OSError as error:
            raise StorageError.from_os(self._key_path, error) from None

    def check_key(self, key: str) -> None:
        """Raise StorageError when this folder is not that of the driver, whose `key` is given, or not there."""
        try:
            found = self._key_path.read_text().strip()
        except OSError as error:
            found, reason = "", error.strerror
        else:
            reason = "it holds another study"
        if found != key:
            raise StorageError(
                f"storage: {self.path} is not the driver's folder ({reason}); mount the same file system on all nodes"
            )

    def create(self) -> None:
        """Make the folders; raises ValueError when they cannot be written."""
        try:
            for kind in ("trials", "checkpoints"):
                (self.path / kind).mkdir(parents=True, exist_ok=True)
            self._try_to_write()
        except OSError as error:
            raise ValueError(
                f"storage: cannot write to {self.path} ({error.strerror}); choose another folder with --storage"
            ) from None

    def remove_empty(self) -> None:
        """Remove the folders that `create` has made, if nothing lies in them, not even another driver's lock."""
        with contextlib.suppress(OSError):
            if {entry.name for entry in self.path.iterdir()} <= {"trials", "checkpoints"}:
                for kind in ("trials", "checkpoints"):
                    (self.path / kind).rmdir()
                self.path.rmdir()

    def check_room(self) -> None:
        """Raise StorageError when nothing more can be written here."""
        try:
            self._try_to_write()
        except OSError as error:
            raise StorageError.from_os(self.path, error) from None

    def remove_leftovers(self, ended: set[str]) -> None:
        """Delete what killed processes left behind: unfinished drafts, and checkpoints of trials that have `ended`."""
        for kind in ("trials", "checkpoints"):
            for path in (self.path / kind).glob("*.part"):
                path.unlink(missing_ok=True)
        for path in (self.path / "checkpoints").glob("*.checkpoint"):
            if path.stem in ended:
                path.unlink(missing_ok=True)

    def _try_to_write(self) -> None:
        with tempfile.TemporaryFile(dir=self.path / "trials") as file:
            file.write(bytes(FILE_SYSTEM_ROOM))
            file.flush()
            os.fsync(file.fileno())


def write_whole(path: Path, *parts: bytes | memoryview) -> None:
    """Replace a file, so that after a crash or loss of power the earlier or the new one is there, whole.

    Raises OSError when it cannot be written; then the earlier one is untouched.
    """
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    try:
        with draft.open("wb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Put a folder's entries on the disk: the names of files that were just made or replaced."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:  # some shared file systems refuse this for folders, and do it by themselves
        pass
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def hold_file(path: Path, seconds: float = -1) -> Iterator[None]:
    """Be the only process with this lock, waiting at most so long (-1: as long as it takes).

    Raises:
        Timeout: another process has it.
        ValueError: the file cannot be locked, or the file system has no locks.
    """
    # A lock that is a mere file would outlive a killed process.
    lock = FileLock(path, fallback_to_soft=False)
    try:
        lock.acquire(timeout=seconds)
    except Timeout:
        raise
    except (NotImplementedError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP):
            raise ValueError(f"storage: cannot lock {path} ({error.strerror}); make it writable") from None
        raise ValueError(
            f"storage: {path.parent} is on a file system without locks; mount it with them (flock), or choose another"
        ) from None
    try:
        yield
    finally:
        lock.release()
