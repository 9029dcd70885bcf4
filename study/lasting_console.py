"""A console that outlives whoever reads it: a study is not given up because its output went through `head`."""

import os
import sys
from typing import TextIO

from rich.console import Console


class LastingConsole(Console):
    """A console that prints into nothing once its pipe is closed."""

    def on_broken_pipe(self) -> None:
        """Let this process go on, where a `Console` would end it as if something had failed."""
        self.quiet = True
        output, errors = (_descriptor(stream) for stream in (sys.stdout, sys.stderr))
        nowhere = os.open(os.devnull, os.O_WRONLY)
        if output is not None and errors is not None and os.path.sameopenfile(output, errors):
            os.dup2(nowhere, errors)
        if output is not None:
            os.dup2(nowhere, output)
        os.close(nowhere)


def _descriptor(stream: TextIO | None) -> int | None:
    """Return a stream's file descriptor; None where it has none, as one that was closed by the shell."""
    try:
        return None if stream is None else stream.fileno()
    except (OSError, ValueError):
        return None
