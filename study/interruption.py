"""SIGTERM → what Ctrl-C does, so that a study that is told to stop ends as it should; either is acknowledged."""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

from rich.console import Console


def treat_sigterm_as_ctrl_c() -> None:
    """Set the handler; to be called again after whatever sets its own (`ray.init` does)."""
    signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(signal_number: int, frame: FrameType | None) -> None:
    handler = signal.getsignal(signal.SIGINT)  # while a sweep runs, that of Tune
    if not callable(handler):
        raise KeyboardInterrupt
    handler(signal_number, frame)


@contextlib.contextmanager
def acknowledging_ctrl_c(console: Console) -> Iterator[None]:
    """Say at once that it was heard: a Ray that is starting, which takes seconds, is left when it has started."""
    try:
        yield
    except KeyboardInterrupt:
        console.print("Interrupted; leaving Ray …", style="yellow")
        raise
