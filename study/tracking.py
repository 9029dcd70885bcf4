"""A tracking URI → whether MLflow can be used there, and the RunLog of a study as soon as it can.

mlflow takes two seconds to import, so what needs it is imported where it is first asked.
"""

import contextlib
import http.client
import os
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from study import run_log_schema as schema
from study.new_database import make_database
from study.study_folder import StudyFolder, hold_file
from study.tracking_uri import SECRET, sqlite_path, without_secrets
from study.trial_config import one_line
from study.trial_record import read_status

if TYPE_CHECKING:
    from study.run_log import RunLog

CHECK_SECONDS = 30.0
STORES = "http", "https", "sqlite", "postgresql", "mysql", "mssql", "file", "databricks", "databricks-uc", "uc"
"""Kinds of tracking stores that MLflow has without plugins."""


def check_reachable(tracking_uri: str) -> None:
    """Raise ValueError when no server answers or a file cannot be written: what can be known without mlflow."""
    if SECRET in tracking_uri:
        raise ValueError(f"tracking-uri: {tracking_uri} was printed with {SECRET} for what is secret; give that")
    kind, colon, _ = tracking_uri.partition(":")
    kind = kind.partition("+")[0]
    if colon and kind not in STORES and kind not in entry_points(group="mlflow.tracking_store").names:
        shown = without_secrets(tracking_uri, tracking_uri)
        raise ValueError(
            f"tracking-uri: {shown} cannot be used (MLflow has no stores of kind {kind!r}); give another one"
        )
    if tracking_uri.startswith(("http://", "https://")):
        _check_server(tracking_uri, without_secrets(tracking_uri, tracking_uri))
    if tracking_uri.startswith("sqlite:///"):
        path = sqlite_path(tracking_uri)
        try:
            places = [path.parent, path] if path.exists() else [path.parent]  # SQLite writes its journal beside
            is_writable = all(os.access(place, os.W_OK) for place in places) and not path.is_dir()
        except OSError:  # no file can have this name
            is_writable = False
        if not is_writable:
            raise ValueError(f"tracking-uri: cannot write to {path}; give another one")


def check_tracking(tracking_uri: str) -> None:
    """Raise ValueError, within seconds, when a tracking server does not answer or a database cannot be opened."""
    check_reachable(tracking_uri)
    from study.run_log import make_tables, search_once, tables_version

    problem: list[str] = ["no answer within seconds"]

    def look() -> None:
        try:
            make_database(tracking_uri, make_tables, tables_version)
            search_once(tracking_uri)
            problem.clear()
        except ModuleNotFoundError as error:
            other = ", or name another driver, as in postgresql+psycopg2://" if "psycopg" in str(error) else ""
            problem[0] = f"{one_line(error)}: install it{other}"
        except Exception as error:  # SQLAlchemy and every scheme's plugin raise their own
            problem[0] = one_line(error)

    # Databases have no common time limit, so the driver goes on without the thread that waits for one. That of this
    # machine is made now, if need be, which takes as long as it takes.
    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    thread.join(None if tracking_uri.startswith("sqlite:") else CHECK_SECONDS)
    if problem:
        shown, reason = (without_secrets(text, tracking_uri) for text in (tracking_uri, problem[0]))
        raise ValueError(f"tracking-uri: {shown} cannot be used ({reason}); give another one")


def _check_server(tracking_uri: str, shown: str) -> None:
    """Look whether anything answers, without MLflow's patience; a server that asks for a password does answer."""
    try:
        parts = urllib.parse.urlsplit(tracking_uri.rstrip("/") + "/health")
        address = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()  # urllib takes no password there
        with urllib.request.urlopen(address, timeout=5) as answer:
            if answer.read(100).strip() == b"OK":
                return
            reason: object = "it is no MLflow server"
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            return
        reason = error
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or one_line(error)
    raise ValueError(f"tracking-uri: {shown} does not answer ({reason}); start the server or give another one")


class Connection:
    """The RunLog of a study, opened `at_once` if the server lets it, else whenever `open` is called and succeeds."""

    def __init__(
        self, tracking_uri: str, folder: StudyFolder, data_tags: Mapping[str, str], epochs: int, at_once: bool = True
    ) -> None:
        """Raises ValueError as RunLog does, if it is opened now."""
        self.tracking_uri, self.folder, self.data_tags, self.epochs = tracking_uri, folder, data_tags, epochs
        self.run_log: RunLog | None = None
        if at_once:
            from study.run_log import SERVER_FAILURES

            # Another study's driver may be making the tables.
            with contextlib.suppress(*SERVER_FAILURES), hold_file(folder.tracking_lock):
                self.run_log = self._make()

    def open(self) -> "RunLog":
        """Return the RunLog; raises whatever keeps it from being opened."""
        if self.run_log is None:
            with hold_file(self.folder.tracking_lock):
                check_tracking(self.tracking_uri)
            self.run_log = self._make()
        return self.run_log

    def _make(self) -> "RunLog":
        from study.run_log import RunLog

        return RunLog(self.tracking_uri, self.folder, self.data_tags, self.epochs)


def finished_trials(in_mlflow: Mapping[str, str], folder: StudyFolder, trial_ids: Sequence[str]) -> dict[str, str]:
    """Return how the trials ended that need not be run: their record has ended, or MLflow holds them complete."""
    found = dict(in_mlflow)
    for trial_id in trial_ids:
        status = read_status(folder.record_path(trial_id))
        if status is not None:
            found[trial_id] = status
    return {trial_id: found[trial_id] for trial_id in trial_ids if found.get(trial_id) in schema.ENDED_STATUSES}
