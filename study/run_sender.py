"""Trials that have news → their records sent to MLflow, by a thread of the driver while training goes on.

A server that does not answer is tried again later; training never waits for it.
"""

import queue
import threading
from collections.abc import Sequence

from study.run_log import RunLog, Transmission, is_complete
from study.trial_config import one_line

RETRY_SECONDS = 5.0
FAILURES_IN_A_ROW = 3
"""After so many, the server is taken to be down, and the rest waits; a single trial that fails holds up no other."""


class RunSender:
    """A thread that sends the records of the trials it is told about; use as a context manager."""

    def __init__(self, run_log: RunLog) -> None:
        self._log = run_log
        self._earlier_runs = run_log.find_runs()
        self._transmissions: dict[str, Transmission] = {}
        self._wanted: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._unsent: dict[str, None] = {}  # an ordered set: what failed goes to its end
        self._problems: dict[str, str] = {}
        self._thread = threading.Thread(target=self._run, name="mlflow sender", daemon=True)

    def __enter__(self) -> "RunSender":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Send what is left, trying once more what failed."""
        self._wanted.put(None)
        self._thread.join()

    def send(self, trial_ids: Sequence[str]) -> None:
        """Send what these trials' records hold by now, soon."""
        for trial_id in trial_ids:
            self._wanted.put(trial_id)

    @property
    def problem(self) -> str | None:
        """Why the trial that failed last could not be sent; None when none waits for another attempt."""
        return next(reversed(self._problems.values()), None)

    @property
    def unsent(self) -> list[str]:
        """Trials whose records are not completely sent."""
        return sorted(self._unsent)

    def _run(self) -> None:
        closing = False
        while not closing:
            closing = self._collect()
            self._attempt(list(self._unsent))
        if not self._problems:
            for trial_id, transmission in self._transmissions.items():
                try:
                    transmission.mark_interrupted()
                except Exception as error:  # see _attempt
                    self._unsent[trial_id] = None
                    self._note_problem(trial_id, error)

    def _collect(self) -> bool:
        """Wait for something to send, then take all there is; return whether the end was asked for."""
        closing = False
        try:
            wanted = self._wanted.get(timeout=RETRY_SECONDS if self._unsent else None)
            while True:
                if wanted is None:
                    closing = True
                else:
                    self._unsent[wanted] = None
                wanted = self._wanted.get_nowait()
        except queue.Empty:
            return closing

    def _attempt(self, trial_ids: Sequence[str]) -> None:
        failures = 0
        for trial_id in trial_ids:
            del self._unsent[trial_id]
            try:
                self._transmit(trial_id)
            except Exception as error:  # a server's failures have no common type, and none may end the thread
                self._unsent[trial_id] = None
                self._note_problem(trial_id, error)
                failures += 1
                if failures == FAILURES_IN_A_ROW:
                    return
            else:
                failures = 0
                self._problems.pop(trial_id, None)

    def _note_problem(self, trial_id: str, error: Exception) -> None:
        self._problems.pop(trial_id, None)  # so that the newest is the last
        self._problems[trial_id] = f"{type(error).__name__}: {self._log.without_secrets(one_line(error))}"

    def _transmit(self, trial_id: str) -> None:
        earlier = self._earlier_runs.get(trial_id)
        if earlier is not None and is_complete(earlier):
            return
        if trial_id not in self._transmissions:
            self._transmissions[trial_id] = self._log.begin_transmission(trial_id)
        self._transmissions[trial_id].advance()
