"""What MLflow's process does for the driver: it opens the store, sends records, and says how far it has come."""

import contextlib
import dataclasses
import importlib
import logging
import multiprocessing
import os
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing import connection as pipes
from typing import Any

from study.run_sender import RunSender
from study.study_folder import StudyFolder, hold_file
from study.tracking import Connection, check_tracking
from study.trial_config import one_line

NICENESS = 5
"""Behind the driver, and before Ray's workers."""
WORKERS_NICENESS = 15
"""Ray's default."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What MLflow holds of a study when no more is sent."""

    sent: Mapping[str, str]
    """Trials whose ended records it holds completely, with the attempts that were sent."""
    unsent: Sequence[str]
    """Trials whose records are not completely sent."""
    problem: str | None
    """Why the trial that failed last could not be sent."""
    experiment_id: str | None = None
    """None where MLflow was not reached."""


class MlflowService:
    """What the driver asks for, by its methods: see those of `MlflowProcess`."""

    def __init__(self, tracking_uri: str, folder: StudyFolder, is_new: bool) -> None:
        self.tracking_uri, self.folder, self.is_new = tracking_uri, folder, is_new
        self.connection: Connection | None = None
        self.sender: RunSender | None = None

    def check(self) -> None:
        """Raise ValueError when the store cannot be used."""
        if not self.is_new:
            with hold_file(self.folder.tracking_lock), suggesting_later():
                check_tracking(self.tracking_uri)

    def connect(self, data_tags: Mapping[str, str], epochs: int) -> dict[str, str]:
        """Begin to send; return how the trials ended that the store holds completely."""
        self.connection = Connection(self.tracking_uri, self.folder, data_tags, epochs, at_once=not self.is_new)
        self.sender = RunSender(self.connection.open, self.tracking_uri)
        self.sender.__enter__()
        return self.connection.run_log.complete_trials() if self.connection.run_log else {}

    def send(self, trial_ids: Sequence[str], ended: bool) -> None:
        """Pass on to the sender."""
        if self.sender is not None:
            self.sender.send(trial_ids, ended)

    def hurry(self) -> None:
        """Pass on to the sender."""
        if self.sender is not None:
            self.sender.hurry()

    def problem(self) -> str | None:
        """Return the sender's."""
        return self.sender.problem if self.sender is not None else None

    def close(self) -> Outcome:
        """Send what is left; return what came of all."""
        assert self.connection is not None
        assert self.sender is not None
        self.sender.__exit__()
        run_log = self.connection.run_log
        return Outcome(
            self.sender.sent, self.sender.unsent, self.sender.problem, run_log.experiment_id if run_log else None
        )


def serve(connection: pipes.Connection, tracking_uri: str, folder: StudyFolder, is_new: bool) -> None:
    """Call what the driver asks for, and end with it; import mlflow before there is anything to send."""
    threading.Thread(target=_end_with_driver, daemon=True).start()
    os.nice(NICENESS)
    warnings.simplefilter("ignore")  # whatever goes wrong is raised or told, and the terminal shows the progress
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    side = MlflowService(tracking_uri, folder, is_new)
    if is_new:  # else it is needed at once
        threading.Thread(target=_import_run_log, daemon=True).start()
    with contextlib.suppress(OSError, EOFError):  # the driver has ended
        while True:
            method, arguments = connection.recv()
            try:
                answer: Any = method(side, *arguments), None
            except ValueError as error:
                answer = None, ValueError(str(error))
            except Exception as error:  # of any library, and perhaps one that cannot be sent to another process
                answer = None, RuntimeError(one_line(error))
            connection.send(answer)


def _import_run_log() -> None:
    """Import what sends, taking turns with the workers, which begin meanwhile."""
    os.nice(WORKERS_NICENESS - NICENESS)  # Linux has one for each thread
    with contextlib.suppress(Exception):  # who needs it next tells what is wrong
        importlib.import_module("study.run_log")


def _end_with_driver() -> None:
    driver = multiprocessing.parent_process()
    assert driver is not None
    driver.join()
    os._exit(1)


@contextlib.contextmanager
def suggesting_later() -> Iterator[None]:
    """Let a ValueError that is raised meanwhile name the way to do without MLflow for now."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{error}, or put it off with --send-later") from None
