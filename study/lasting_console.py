"""A console that outlives whoever reads it: a study is not given up because its output went through `head`."""

import os
import sys

from rich.console import Console


class LastingConsole(Console):
    """A console that prints into nothing once its pipe is closed."""

    def on_broken_pipe(self) -> None:
        """Let this process go on, where a `Console` would end it as if something had failed."""
        streams = sys.stdout.fileno(), sys.stderr.fileno()
        of_one_pipe = streams if os.path.sameopenfile(*streams) else streams[:1]
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in of_one_pipe:
            os.dup2(nowhere, stream)
        os.close(nowhere)
