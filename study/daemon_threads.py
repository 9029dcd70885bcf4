"""Work → threads that end with the process, and no sooner.

Not an executor's: when a process is told to exit, Python closes executors while other threads go on, and training that
goes on would take the refusal for a fault of its own.
"""

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from functools import partial
from queue import SimpleQueue
from typing import Any, TypeVar

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


class DaemonThreads:
    """So many threads that do what they are given; use as a context manager, which ends when all is done."""

    def __init__(self, count: int, name: str) -> None:
        self._work: SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = SimpleQueue()
        self._threads = [threading.Thread(target=self._run, name=name, daemon=True) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> "DaemonThreads":
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Return when all that was begun is done; nothing more can be."""
        for _ in self._threads:
            self._work.put(None)
        for thread in self._threads:
            thread.join()

    def begin(self, work: Callable[[], Outcome]) -> "Future[Outcome]":
        """Let `work` be done as soon as a thread is free."""
        outcome: Future[Outcome] = Future()
        self._work.put((work, outcome))
        return outcome

    def do_each(self, work: Callable[[Item], Outcome], items: Iterable[Item]) -> list[Outcome]:
        """Return what `work` makes of every item, once all are done, side by side; raises what one of them raised."""
        begun = [self.begin(partial(work, item)) for item in items]
        failures = [failure for one in begun if (failure := one.exception())]  # waits for all
        if failures:
            raise failures[0]
        return [one.result() for one in begun]

    def _run(self) -> None:
        while self._do_next():
            pass

    def _do_next(self) -> bool:
        """Do one piece of work, of which nothing is kept while the next is waited for; say whether there was one."""
        job = self._work.get()
        if job is None:
            return False
        work, outcome = job
        try:
            outcome.set_result(work())
        except BaseException as error:  # raised by whoever waits for it
            outcome.set_exception(error)
        return True
