"""What is wrong with a command → one line on the error output; shared by the command lines of study and analysis."""

import argparse
import difflib
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

SOME_FAILED, BAD_USAGE, INTERRUPTED = 1, 2, 130
"""Exit statuses, beside 0."""
LONGEST = 1000
"""Characters of an error that are shown: a value of megabytes helps nobody."""
OTHER_NAMES = {"gpu": "cuda"}
"""What many write → what it is called here, where another name looks more like it."""


class OneLineParser(argparse.ArgumentParser):
    """A parser that says what is wrong in one line, as everything else here does, and exits with BAD_USAGE.

    Options are written in full: what is short for one today may be short for two tomorrow.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"allow_abbrev": False, **options})
        self._commands: Any = None

    def add_subparsers(self, **options: Any) -> Any:
        """Make room for commands, which `error` names where none is given."""
        self._commands = super().add_subparsers(**options)
        return self._commands

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse; refuses what is unknown, where the command that it was given to can say what may have been meant.

        Refuses `--name=--`, too, which argparse takes for an empty list.
        """
        options, unknown = super().parse_known_args(args, namespace)
        if unknown:
            names = [text.partition("=")[0] for text in unknown if text.startswith("-")]
            # Without values, which may hold a password, as addresses do.
            shown = names or ["…" if "://" in text else text for text in unknown]
            self.error(f"unrecognized arguments: {' '.join(shown)}{self._suggest(names)}")
        for name, value in vars(options).items():
            if value in ([], [[]]):
                self.error(f"argument --{name.replace('_', '-')}: expected a value, not --")
        return options, unknown

    def _suggest(self, names: Sequence[str]) -> str:
        given = next((name for name in names if name.startswith("--")), "")
        known = sorted({*self._option_string_actions} - {"-h", "--help"}) if given else []
        near = next((option for option in known if option.startswith(given)), None) or find_nearest(given, known)
        return f"; did you mean {near}?" if near else ""

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Refuse what is none of the choices (commands among them), with the nearest as remedy."""
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            near = find_nearest(value, map(str, action.choices or ()))
            error.message += f"; did you mean {near}?" if near else ""
            raise

    def error(self, message: str) -> NoReturn:
        """Print and exit."""
        if self._commands is not None and message.endswith(f"required: {self._commands.metavar}"):
            message += f", one of {', '.join(self._commands.choices)}"
        print_error(f"{message} (see {self.prog} --help)")
        self.exit(BAD_USAGE)


def find_nearest(name: object, known: Iterable[str]) -> str | None:
    """Return the known name that was probably meant, whatever the case it was written in; None when none is near."""
    given, by_lower = str(name).lower(), {text.lower(): text for text in known}
    near = [OTHER_NAMES.get(given, given), *difflib.get_close_matches(given, by_lower, n=1)]
    return next((by_lower[text] for text in near if text in by_lower), None)


def print_error(text: object) -> None:
    """Print an error on one line, whatever the values in it hold."""
    line = " ".join(str(text).split())
    if len(line) > LONGEST:
        line = f"{line[: LONGEST // 2]} … {line[-LONGEST // 2 :]}"
    print(f"error: {line}".encode(errors="backslashreplace").decode(), file=sys.stderr)
