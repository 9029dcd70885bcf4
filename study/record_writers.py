"""Writing of records → threads beside the training, which does not wait for the disk.

A write that is to survive a loss of power takes milliseconds, on a shared file system tens of them, and each member of
a pack has its own; those that wait together share most of it.

The threads are plain ones, not an executor's: when a worker is told to exit, Python closes executors first, and the
training that is still going on would take that for a fault of its own.
"""

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from functools import partial
from queue import SimpleQueue
from typing import Any, TypeVar

Member = TypeVar("Member")
Written = TypeVar("Written")

WRITERS = 8
"""More do not write any faster."""


class RecordWriters:
    """Writes for the members of a pack side by side; use as a context manager, which ends when all is written.

    What could not be written is raised at its end, too, in place of what training raised.
    """

    def __init__(self) -> None:
        self._each, self._in_order = _Threads(WRITERS, "record writer"), _Threads(1, "record writing")
        self._last: Future[None] | None = None

    def __enter__(self) -> "RecordWriters":
        return self

    def __exit__(self, *_: object) -> None:
        self._in_order.end()
        self._each.end()
        self.wait()

    def write_each(self, write: Callable[[Member], Written], members: Iterable[Member]) -> list[Written]:
        """Return what `write` does of every member, once all are done, side by side; raises what one of them raised."""
        begun = [self._each.do(partial(write, member)) for member in members]
        failures = [failure for one in begun if (failure := one.exception())]  # waits for all
        if failures:
            raise failures[0]
        return [one.result() for one in begun]

    def begin(self, work: Callable[[], None]) -> None:
        """Let `work` be done beside what follows, once the work before it is; raises what that one raised."""
        self.wait()
        self._last = self._in_order.do(work)

    def wait(self) -> None:
        """Return when all that was begun is done; raises what it raised, once."""
        last, self._last = self._last, None
        if last is not None:
            last.result()


class _Threads:
    """So many threads that do what they are given; they end with the process."""

    def __init__(self, count: int, name: str) -> None:
        self._work: SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = SimpleQueue()
        self._threads = [threading.Thread(target=self._run, name=name, daemon=True) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def do(self, work: Callable[[], Written]) -> "Future[Written]":
        """Begin as soon as a thread is free."""
        outcome: Future[Written] = Future()
        self._work.put((work, outcome))
        return outcome

    def end(self) -> None:
        """Return when all is done."""
        for _ in self._threads:
            self._work.put(None)
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while (job := self._work.get()) is not None:
            work, outcome = job
            try:
                outcome.set_result(work())
            except BaseException as error:  # raised by whoever waits for it
                outcome.set_exception(error)
