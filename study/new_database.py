"""A SQLite file that is not there yet → MLflow's database: whole, or still not there.

MLflow makes its tables in seconds, step by step, and calls a database in which it was interrupted out of date. So they
are made elsewhere, and kept for the next storage of this user.
"""

import contextlib
import gzip
import os
import secrets
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path

from study.study_folder import write_whole
from study.tracking_uri import sqlite_path
from study.user_cache import make_cache_folder


def is_new_database(tracking_uri: str) -> bool:
    """Say whether this is a file that can be written and holds nothing yet: no request can be wrong about it.

    Making its tables takes seconds, in which training can begin.
    """
    path = _file_of(tracking_uri)
    try:
        if path is None or "?" in tracking_uri or not path.is_absolute():
            return False
        if path.exists():
            return holds_nothing(path) and os.access(path, os.W_OK)
        with tempfile.TemporaryFile(dir=path.parent):
            return holds_nothing(path)
    except (OSError, ValueError):  # of a place that takes no file, or a name that no file can have
        return False


def holds_nothing(path: Path) -> bool:
    """Say whether there is no file yet, or an empty one; a symbolic link may lead anywhere."""
    return not path.is_symlink() and (not path.exists() or (path.is_file() and path.stat().st_size == 0))


def make_database(tracking_uri: str, make_tables: Callable[[str], None], name_version: Callable[[], str]) -> None:
    """Put a database that `make_tables` has filled elsewhere where the URI says, if nothing is there.

    What it makes is kept under the name that `name_version` returns; so it must not depend on where it is made. Where
    this cannot be done, whoever asks MLflow for the database next makes it in its place, or is told why not.
    """
    path = _file_of(tracking_uri)
    with contextlib.suppress(Exception):
        # SQLite would apply the journal of a lost database to a new one; beside an empty file it drops it.
        if path is not None and not any(os.path.lexists(f"{path}{suffix}") for suffix in ("", "-journal", "-wal")):
            _put(_new_database(make_tables, name_version), path)


def _new_database(make_tables: Callable[[str], None], name_version: Callable[[], str]) -> bytes:
    """Return a database's bytes: those that are kept, unless they are damaged."""
    kept = None
    with contextlib.suppress(OSError, EOFError, zlib.error, RuntimeError, ValueError, ImportError):
        kept = make_cache_folder("databases") / f"{name_version()}.db.gz"  # a form that has a checksum
        if content := gzip.decompress(kept.read_bytes()):
            return content
    content = _make_elsewhere(make_tables)
    if kept is not None:
        with contextlib.suppress(OSError):
            write_whole(kept, gzip.compress(content))
    return content


def _make_elsewhere(make_tables: Callable[[str], None]) -> bytes:
    """Return the database that `make_tables` fills."""
    with tempfile.TemporaryDirectory() as folder:
        if "?" in folder or "%" in folder:
            raise ValueError("these mean something else in a URI")
        made = Path(folder) / "mlflow.db"
        make_tables(f"sqlite:///{made}")
        return made.read_bytes()


def _put(content: bytes, path: Path) -> None:
    whole = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        write_whole(whole, content)
        os.link(whole, path)  # which replaces nothing, should somebody have made it meanwhile
    except OSError:
        if not os.path.lexists(path):  # there are no links in this file system
            whole.replace(path)
    finally:
        whole.unlink(missing_ok=True)


def _file_of(tracking_uri: str) -> Path | None:
    """Return the file of a URI in which nothing has a meaning of its own."""
    path = sqlite_path(tracking_uri)
    if not tracking_uri.startswith("sqlite:///") or "%" in tracking_uri or str(path).startswith(("file:", ":")):
        return None
    return path
