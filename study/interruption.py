"""SIGTERM → what Ctrl-C does, so that a study that is told to stop ends as it should."""

import signal
from types import FrameType


def treat_sigterm_as_ctrl_c() -> None:
    """Set the handler; to be called again after whatever sets its own (`ray.init` does)."""
    signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(signal_number: int, frame: FrameType | None) -> None:
    handler = signal.getsignal(signal.SIGINT)  # while a sweep runs, that of Tune
    if not callable(handler):
        raise KeyboardInterrupt
    handler(signal_number, frame)
