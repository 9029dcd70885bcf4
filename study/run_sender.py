"""Trials that have news → their records sent to MLflow, by a thread.

A server that does not answer is tried again later; training never waits for it.
"""

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from study import run_log_schema as schema
from study.tracking_uri import without_secrets
from study.trial_config import one_line

if TYPE_CHECKING:
    from study.run_log import RunLog, Transmission

RETRY_SECONDS = 5.0
GATHER_SECONDS = 1.0
"""News are gathered for so long before they are sent: a trial that has ended by then takes the fewest requests. Nothing
is lost: the records are on the disk."""
RUNNING_SECONDS = 15.0
"""A trial that has not ended is sent no earlier than so long after its news: a short one is sent once, whole."""
FAILURES_IN_A_ROW = 3
"""After so many, the server is taken to be down, and the rest waits; a single trial that fails holds up no other."""


class RunSender:
    """A thread that sends the records of the trials it is told about; use as a context manager.

    `open_log` is called until it succeeds, in the thread: the server may be down when the study begins.
    """

    def __init__(self, open_log: Callable[[], "RunLog"], tracking_uri: str) -> None:
        self._open_log, self._tracking_uri = open_log, tracking_uri
        self._log: RunLog | None = None
        self._sent: dict[str, str] = {}
        self._transmissions: dict[str, Transmission] = {}
        self._wanted: queue.SimpleQueue[tuple[str, float] | None] = queue.SimpleQueue()  # None: there is a hurry
        self._unsent: dict[str, float] = {}  # with the time from which it is due; what failed goes to the end
        self._problems: dict[str, str] = {}
        self._is_reachable = True
        self._closing = False
        self._has_been_told = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mlflow sender", daemon=True)

    def __enter__(self) -> "RunSender":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Send what is left, trying once more what failed."""
        self._closing = True
        self.hurry()
        self._thread.join()

    def send(self, trial_ids: Sequence[str], ended: bool = True) -> None:
        """Send what these trials' records hold by now: soon, if they have ended."""
        due = 0.0 if ended else time.monotonic() + RUNNING_SECONDS
        for trial_id in trial_ids:
            self._wanted.put((trial_id, due))
            self._has_been_told.set()

    def hurry(self) -> None:
        """Send now what was gathered: nothing more is to come soon."""
        self._wanted.put(None)
        self._has_been_told.set()

    @property
    def problem(self) -> str | None:
        """Why the trial that failed last could not be sent; None when none waits for another attempt."""
        return next(reversed(self._problems.values()), None)

    @property
    def sent(self) -> dict[str, str]:
        """Trials whose ended records MLflow holds completely, with the attempts that were sent."""
        return dict(self._sent)

    @property
    def unsent(self) -> list[str]:
        """Trials whose records are not completely sent."""
        return sorted(self._unsent)

    def _run(self) -> None:
        self._has_been_told.wait()  # earlier, making a database would take turns with the workers' beginning
        if not self._closing:
            with contextlib.suppress(Exception):  # it is tried again, and told, when something is due
                self._open()
        closing = False
        while not closing:
            self._collect()
            closing = self._closing and self._wanted.empty()
            now = time.monotonic()
            self._attempt([trial_id for trial_id, due in self._unsent.items() if closing or due <= now])
        if self._is_reachable:
            for trial_id, transmission in self._transmissions.items():
                if trial_id in self._problems:
                    continue
                try:
                    transmission.mark_interrupted()
                except Exception as error:  # see _attempt
                    self._unsent[trial_id] = 0.0
                    self._note_problem(trial_id, error)

    def _collect(self) -> None:
        """Wait for something to send, then gather what else comes, until there is a hurry."""
        with contextlib.suppress(queue.Empty):
            wanted = self._wanted.get(timeout=RETRY_SECONDS if self._unsent else None)
            until = time.monotonic() + GATHER_SECONDS
            while wanted is not None:
                trial_id, due = wanted
                self._unsent[trial_id] = min(due, self._unsent.get(trial_id, due))
                wanted = self._wanted.get(timeout=max(0.0, until - time.monotonic()))
            self._unsent = dict.fromkeys(self._unsent, 0.0)  # a hurry: all of it is due

    def _open(self) -> None:
        if self._log is None:
            log = self._open_log()
            self._earlier_runs = log.find_runs()
            self._log = log

    def _attempt(self, trial_ids: Sequence[str]) -> None:
        self._is_reachable = True
        try:
            if trial_ids:
                self._open()
        except Exception as error:  # see below
            self._note_problem(trial_ids[0], error)
            self._is_reachable = False
            return
        failures = 0
        for trial_id in trial_ids:
            del self._unsent[trial_id]
            try:
                self._transmit(trial_id)
            except Exception as error:  # a server's failures have no common type, and none may end the thread
                self._unsent[trial_id] = 0.0
                self._note_problem(trial_id, error)
                failures += 1
                if failures == FAILURES_IN_A_ROW:
                    self._is_reachable = False
                    return
            else:
                failures = 0
                self._problems.pop(trial_id, None)

    def _note_problem(self, trial_id: str, error: Exception) -> None:
        self._problems.pop(trial_id, None)  # so that the newest is the last
        self._problems[trial_id] = f"{type(error).__name__}: {without_secrets(one_line(error), self._tracking_uri)}"

    def _transmit(self, trial_id: str) -> None:
        assert self._log is not None
        from study.run_log import is_complete, is_sent

        if trial_id not in self._transmissions:
            earlier = self._earlier_runs.get(trial_id)
            if earlier is not None and is_sent(earlier, self._log.read_attempt(trial_id)):
                self._sent[trial_id] = earlier.data.tags.get(schema.TAG_ATTEMPT, "")
                return
            if earlier is not None and is_complete(earlier) and not self._log.has_whole_record(trial_id):
                return  # of two trainings a whole one stays until the other is
            self._transmissions[trial_id] = self._log.begin_transmission(trial_id, earlier is not None)
        transmission = self._transmissions[trial_id]
        transmission.advance()
        if transmission.ended:
            self._sent[trial_id] = transmission.attempt or ""
