"""A study's news → MLflow, through a process of its own.

Importing mlflow takes seconds and sending a run tens of milliseconds of a core: here neither takes turns with the
driver's threads, which start Ray and keep the workers busy. The driver waits for it only before it trains and when it
has trained; should the process be lost, the records are still there to be sent. They talk through a pipe: what
multiprocessing offers beyond (queues, pools) has semaphores, which a driver that ends in haste leaves behind.
"""

import contextlib
import multiprocessing
import signal
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from multiprocessing import resource_tracker
from typing import Any, TypeVar

from study.mlflow_service import MlflowService, Outcome, serve, suggesting_later
from study.new_database import holds_nothing, is_new_database
from study.study_folder import StudyFolder
from study.tracking import check_reachable
from study.tracking_uri import sqlite_path

LOST = "the process that sends was lost"
TABLES_SECONDS = 20.0
"""A refusal waits no longer for tables that are being made."""

Answer = TypeVar("Answer")


class MlflowProcess:
    """The process; use as a context manager. It ends with the context, or with the driver, however that ends.

    First `check`, then `ask` and `wait_for_finished`; when no more is sent, `close`.
    """

    def __init__(self, tracking_uri: str, folder: StudyFolder) -> None:
        """Raises ValueError where nothing answers or could be written; what else is wrong, `check` tells."""
        self._uri, self._folder = tracking_uri, folder
        self._is_new = is_new_database(tracking_uri)
        if not self._is_new:
            with suggesting_later():
                check_reachable(tracking_uri)
        self._may_make_tables = tracking_uri.startswith("sqlite:") and holds_nothing(sqlite_path(tracking_uri))
        self._told: set[str] = set()
        self._last_problem: str | None = None

    def __enter__(self) -> "MlflowProcess":
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, self._uri, self._folder, self._is_new))
        self._calls = ThreadPoolExecutor(1, "mlflow calls")  # one after the other, and training waits for none
        try:
            resource_tracker.ensure_running()  # it is started with the process otherwise, and unblocks signals
            with _signals_blocked(), _no_main_module():
                self._process.start()
            theirs.close()  # so that the end of the process is the end of the connection
            self._asked_for_problem = self._submit(MlflowService.problem)
            self._checked = self._submit(MlflowService.check)
        except BaseException:  # Ctrl-C in this moment, for one
            self._kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if self._may_make_tables:
                wait([self._checked], TABLES_SECONDS)  # half of them would be of no use, and lie about
        finally:
            self._kill()

    def _kill(self) -> None:
        if self._process.pid is not None:
            self._process.kill()
            self._process.join()
        self._calls.shutdown()
        self._connection.close()

    def check(self) -> None:
        """Raise ValueError when MLflow cannot be used; a database that is new is not waited for."""
        if not self._is_new:
            self._result(self._checked)

    def ask(self, data_tags: Mapping[str, str], epochs: int) -> None:
        """Let the study's experiment be found or made, and what it holds, while other things go on."""
        self._answer = self._submit(MlflowService.connect, data_tags, epochs)

    def wait_for_finished(self) -> dict[str, str]:
        """Return how the trials ended that MLflow holds completely; a database that is new is not waited for.

        Raises:
            ValueError: MLflow cannot be used for this study.
        """
        return {} if self._is_new else self._result(self._answer)

    def send(self, trial_ids: Sequence[str], ended: bool = True) -> None:
        """Send what these trials' records hold by now: soon, if they have ended. Returns at once."""
        self._told.update(trial_ids)
        self._submit(MlflowService.send, trial_ids, ended)

    def hurry(self) -> None:
        """Send now what was gathered: nothing more is to come soon."""
        self._submit(MlflowService.hurry)

    @property
    def problem(self) -> str | None:
        """Why a trial could not be sent, as of a moment ago; None when none waits for another attempt."""
        if self._asked_for_problem.done():
            answer, self._asked_for_problem = self._asked_for_problem, self._submit(MlflowService.problem)
            error = answer.exception()
            self._last_problem = str(error) if error else answer.result()
        return self._last_problem

    def close(self) -> Outcome:
        """Send what is left, trying once more what failed."""
        try:
            return self._submit(MlflowService.close).result()
        except RuntimeError as error:
            return Outcome({}, sorted(self._told), f"{error}, so some of them may be there")

    def _submit(self, method: Callable[..., Answer], *arguments: Any) -> Future[Answer]:
        """Let the process call a method of its side, after those that were asked for before.

        What it raises is a ValueError of that side, or else a RuntimeError of one line.
        """
        return self._calls.submit(self._call, method, *arguments)

    def _call(self, method: Callable[..., Any], *arguments: Any) -> Any:
        try:
            self._connection.send((method, arguments))
            answer, error = self._connection.recv()
        except (OSError, EOFError):
            raise RuntimeError(LOST) from None
        if error is not None:
            raise error
        return answer

    def _result(self, future: Future[Answer]) -> Answer:
        try:
            return future.result()
        except RuntimeError as error:
            raise ValueError(f"tracking-uri: {error}") from None


class SendLater:
    """Stands for the process where everything is left to `python -m study sync`: nothing is asked or sent."""

    problem = None

    def __init__(self) -> None:
        self._told: set[str] = set()

    def __enter__(self) -> "SendLater":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def check(self) -> None:
        """Find nothing wrong."""

    def ask(self, data_tags: Mapping[str, str], epochs: int) -> None:
        """Ask nobody."""

    def wait_for_finished(self) -> dict[str, str]:
        """Return none."""
        return {}

    def send(self, trial_ids: Sequence[str], ended: bool = True) -> None:
        """Note that these are to be sent."""
        self._told.update(trial_ids)

    def hurry(self) -> None:
        """Do nothing."""

    def close(self) -> Outcome:
        """Return which trials are to be sent."""
        return Outcome({}, sorted(self._told), "put off with --send-later")


Tracking = MlflowProcess | SendLater


@contextlib.contextmanager
def _signals_blocked() -> Iterator[None]:
    """Let processes and threads that are started here get neither SIGINT nor SIGTERM: Ctrl-C is for the driver."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _no_main_module() -> Iterator[None]:
    """Let processes that are started here do without the program's main module, which they would import again."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
