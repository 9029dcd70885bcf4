"""A number, its interval, or the sentence that says why there is none: what estimators return."""

import dataclasses
import math
from collections.abc import Iterable


@dataclasses.dataclass(frozen=True)
class Estimate:
    """An estimate with a 95% interval.

    `value` None: there is no point estimate, and `note` says why. `low` or `high` None: the interval is open on that
    side (or there is none at all when both are None), and `note` says why. No field is ever nan.
    """

    value: float | None = None
    low: float | None = None
    high: float | None = None
    note: str = ""

    def __post_init__(self) -> None:
        for name in ("value", "low", "high"):
            number = getattr(self, name)
            if number is not None:
                object.__setattr__(self, name, float(number) if math.isfinite(number) else None)

    @property
    def is_known(self) -> bool:
        """Whether there is a point estimate."""
        return self.value is not None

    @property
    def bound(self) -> str:
        """Return "≥" when only a lower bound is known, "≤" when only an upper one is, else an empty text."""
        if self.low is not None and self.high is None:
            return "≥"
        return "≤" if self.high is not None and self.low is None else ""

    def contains(self, truth: float) -> bool:
        """Whether a number lies in the interval; an open side holds everything, no interval at all nothing."""
        if self.low is None and self.high is None:
            return False
        return (self.low is None or self.low <= truth) and (self.high is None or truth <= self.high)

    def write(self, digits: int = 3) -> str:
        """Write for people: "34.1 (28.2 to 41)", "≥ 28.2", "34.1" without an interval, or the note alone."""
        low, high = _write(self.low, digits), _write(self.high, digits)
        if self.value is None:
            if self.bound:
                return f"{self.bound} {low or high}"
            return f"{low} to {high}" if low else self.note
        value = _write(self.value, digits)
        if self.bound:
            return f"{value} ({self.bound} {low or high})"
        return f"{value} ({low} to {high})" if low else value

    def as_columns(self, name: str, low_name: str = "", high_name: str = "") -> dict[str, float]:
        """Return table cells NAME, `low_name` (NAME_low) and `high_name` (NAME_high); what is unknown is nan."""
        numbers = {name: self.value, low_name or f"{name}_low": self.low, high_name or f"{name}_high": self.high}
        return {column: math.nan if number is None else number for column, number in numbers.items()}


def write_p(p_value: float) -> str:
    """Write a p value for people: "p = 0.03", "p < 0.001"."""
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.2g}"


def write_list(numbers: Iterable[float]) -> str:
    """Write numbers into one cell of a table: "4, 8, 16"; all digits of those that have many."""
    return ", ".join(short if float(short := f"{number:g}") == number else repr(float(number)) for number in numbers)


def parse_list(cell: object) -> list[float]:
    """Return the numbers that `write_list` wrote."""
    return [float(number) for number in str(cell).split(",")]


def write_short(number: float, digits: int = 3) -> str:
    """Write a number with so many significant digits, and all digits before the point of one below a million."""
    short = f"{number:.{digits}g}"
    return f"{number:.0f}" if 10**digits <= abs(float(short)) and abs(number) < 1e6 else short


def write_apart(numbers: Iterable[float]) -> dict[float, str]:
    """Return number → text, ascending, with three significant digits, or as many more as tell all of them apart."""
    distinct = sorted(set(numbers))
    for digits in range(3, 17):
        shorter = {number: write_short(number, digits) for number in distinct}
        if len(set(shorter.values())) == len(distinct):
            return shorter
    return {number: repr(float(number)) for number in distinct}


def _write(number: float | None, digits: int) -> str:
    return "" if number is None else write_short(number, digits)
