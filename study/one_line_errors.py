"""What is wrong with a command → one line on the error output; shared by the command lines of study and analysis."""

import argparse
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

BAD_USAGE = 2
LONGEST = 1000
"""Characters of an error that are shown: a value of megabytes helps nobody."""


class OneLineParser(argparse.ArgumentParser):
    """A parser that says what is wrong in one line, as everything else here does, and exits with BAD_USAGE."""

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """Parse; refuses `--name=--`, which argparse takes for an empty list."""
        options = super().parse_args(args, namespace)
        for name, value in vars(options).items():
            if value == []:
                self.error(f"argument --{name.replace('_', '-')}: expected a value, not --")
        return options

    def error(self, message: str) -> NoReturn:
        """Print and exit."""
        print_error(f"{message} (see {self.prog} --help)")
        self.exit(BAD_USAGE)


def print_error(text: object) -> None:
    """Print an error on one line, whatever the values in it hold."""
    line = " ".join(str(text).split())
    if len(line) > LONGEST:
        line = f"{line[: LONGEST // 2]} … {line[-LONGEST // 2 :]}"
    print(f"error: {line}".encode(errors="backslashreplace").decode(), file=sys.stderr)
