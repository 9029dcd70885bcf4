"""A SQLite file that is not there yet → MLflow's database: whole, or still not there.

MLflow makes its tables in seconds, step by step, and calls a database in which it was interrupted out of date.
"""

import contextlib
import os
import secrets
import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path

from study import run_log_schema as schema


def is_new_database(tracking_uri: str) -> bool:
    """Say whether this is a file that can be written and holds nothing yet: no request can be wrong about it.

    Making its tables takes seconds, in which training can begin.
    """
    path = _file_of(tracking_uri)
    try:
        if path is None or not path.is_absolute():
            return False
        if path.exists():
            return path.is_file() and path.stat().st_size == 0 and os.access(path, os.W_OK)
        return os.access(path.parent, os.W_OK)
    except (OSError, ValueError):  # of a name that no file can have
        return False


def make_database(tracking_uri: str, make_tables: Callable[[str], None]) -> None:
    """Let `make_tables` fill a temporary database, and put that where the URI says, if nothing is there.

    Where this cannot be done, whoever asks MLflow for the database next makes it in its place.
    """
    path = _file_of(tracking_uri)
    with contextlib.suppress(Exception):
        if path is not None and not path.exists():
            _make_elsewhere(path, make_tables)


def _make_elsewhere(path: Path, make_tables: Callable[[str], None]) -> None:
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "mlflow.db"
        make_tables(f"sqlite:///{made}")
        try:
            with contextlib.closing(sqlite3.connect(made)) as whole, contextlib.closing(sqlite3.connect(draft)) as copy:
                whole.backup(copy)
            os.link(draft, path)  # which replaces nothing, should somebody have made it meanwhile
        finally:
            draft.unlink(missing_ok=True)


def _file_of(tracking_uri: str) -> Path | None:
    if not tracking_uri.startswith("sqlite:///") or "?" in tracking_uri or tracking_uri.endswith(":memory:"):
        return None
    return schema.sqlite_path(tracking_uri)
