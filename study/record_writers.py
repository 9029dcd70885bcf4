"""Writing of records → threads beside the training, which does not wait for the disk.

A write that is to survive a loss of power takes milliseconds, on a shared file system tens of them, and each member of
a pack has its own; those that wait together share most of it.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import TypeVar

from study.daemon_threads import DaemonThreads

Member = TypeVar("Member")
Written = TypeVar("Written")

WRITERS = 8
"""More do not write any faster."""


class RecordWriters:
    """Writes for the members of a pack side by side; use as a context manager, which ends when all is written.

    What could not be written is raised at its end, too, in place of what training raised.
    """

    def __init__(self) -> None:
        self._each, self._in_order = DaemonThreads(WRITERS, "record writer"), DaemonThreads(1, "record writing")
        self._last: Future[None] | None = None

    def __enter__(self) -> "RecordWriters":
        return self

    def __exit__(self, *_: object) -> None:
        self._in_order.end()
        self._each.end()
        self.wait()

    def write_each(self, write: Callable[[Member], Written], members: Iterable[Member]) -> list[Written]:
        """Return what `write` does of every member, once all are done, side by side; raises what one of them raised."""
        return self._each.do_each(write, members)

    def begin(self, work: Callable[[], None]) -> None:
        """Let `work` be done beside what follows, once the work before it is; raises what that one raised."""
        self.wait()
        self._last = self._in_order.begin(work)

    def wait(self) -> None:
        """Return when all that was begun is done; raises what it raised, once."""
        last, self._last = self._last, None
        if last is not None:
            last.result()
