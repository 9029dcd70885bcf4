"""A search space's trials and the options of a study → the packs to train, checked, and a page that shows them."""

import dataclasses
import functools
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from study.console_tables import make_plain_table, print_whole
from study.packing import Pack, check_distinct
from study.trial_config import FIELD_NAMES, TrialConfig, short_number
from study.work import FULL_TEST_SIZE, FULL_TRAIN_SIZE, training_flops

UNITS = {"TFLOP": 1e12, "GFLOP": 1e9, "MFLOP": 1e6}
NETWORK = ("normalization", "activation")
RANGES = ("depth", "dilution")
"""Fields of which a row of the plan may hold several values."""
SPLITS = ("width", "optimizer", "epochs", "precision")
"""Fields of which every value has its own rows."""


def adjust_trials(
    trials: Sequence[TrialConfig], epochs: int | None, limit: int | None, precision: str | None = None
) -> list[TrialConfig]:
    """Return the first `limit` trials with their epochs and precision replaced, where these are given.

    Raises ValueError when nothing is left, or two trials are equal.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit: {limit} is out of range; give at least 1")
    chosen = list(trials[:limit])
    if not chosen:
        raise ValueError("trials: the search space is empty; let it return at least one TrialConfig")
    replaced: dict[str, Any] = {"epochs": epochs, "precision": precision}
    given = {name: value for name, value in replaced.items() if value is not None}
    chosen = [dataclasses.replace(trial, **given) for trial in chosen]
    check_distinct(chosen)
    return chosen


def print_plan(
    name: str,
    trials: Sequence[TrialConfig],
    packs: Sequence[Pack],
    console: Console,
    images: tuple[int, int] | None = None,
) -> None:
    """Print how many trials and packs there are, what varies between them, and the arithmetic to come.

    `images` are those of both splits, where they are known.
    """
    tell = functools.partial(console.print, highlight=False, markup=False)
    tell(f"Study {name}: {_count(trials, 'trial')} in {_count(packs, 'pack')}.")
    sizes = images or (FULL_TRAIN_SIZE, FULL_TEST_SIZE)
    total = sum(training_flops(trial, *sizes) for trial in trials)
    unit = next((unit for unit, size in UNITS.items() if total >= size), "MFLOP")
    columns = [field for field in (*RANGES, *SPLITS) if field == "depth" or len(_values_of(field, trials)) > 1]
    rows = _make_rows(packs, columns)
    if trials:
        print_whole(_make_table(rows, columns, unit, sizes), console)
        for sentence in _describe_rest(trials, rows, columns):
            tell(sentence)
    work = f"Work to come: {total / UNITS[unit]:,.1f} {unit} of training and evaluation, measurements left out"
    if not images and not all(trial.train_size and trial.test_size for trial in trials):
        work += "; where no train_size or test_size is given, for the 50,000 and 10,000 images of CIFAR-10"
    tell(f"{work}.")


def _count(things: Sequence[object], name: str) -> str:
    return f"{len(things)} {name}{'' if len(things) == 1 else 's'}"


def _make_rows(packs: Sequence[Pack], columns: Sequence[str]) -> list[list[Pack]]:
    """Return packs by network and those of their SPLITS that have columns, in this order."""
    rows: dict[tuple, list[Pack]] = defaultdict(list)
    for pack in packs:
        first = pack.trials[0]
        key = tuple(getattr(first, field) for field in SPLITS if field in columns)
        rows[(_name_network(first), *key)].append(pack)
    return [rows[key] for key in sorted(rows)]


def _make_table(rows: Sequence[Sequence[Pack]], columns: Sequence[str], unit: str, sizes: tuple[int, int]) -> Table:
    table = make_plain_table()
    table.add_column("network")
    for heading in (*columns, "trials", "packs", unit):
        table.add_column(heading, justify="right")
    for packs in rows:
        trials = _trials_of(packs)
        values = [_write_values(_values_of(field, trials)) for field in columns]
        flops = sum(training_flops(trial, *sizes) for trial in trials) / UNITS[unit]
        table.add_row(_name_network(trials[0]), *values, str(len(trials)), str(len(packs)), f"{flops:.2f}")
    return table


def _describe_rest(
    trials: Sequence[TrialConfig], rows: Sequence[Sequence[Pack]], columns: Sequence[str]
) -> Iterator[str]:
    """Yield what the table leaves out: fields without a column because all trials are alike, and what varies in rows.

    A field that differs between rows alone, as momentum does between optimizers, belongs to what the rows are of.
    """
    alike = [field for field in (*RANGES, *SPLITS) if field not in columns]
    if alike:
        yield f"All with {_write_fields(alike, trials)}."
    others = [field for field in FIELD_NAMES if field not in (*NETWORK, *RANGES, *SPLITS)]
    varying = [field for field in others if any(len(_values_of(field, _trials_of(packs))) > 1 for packs in rows)]
    if varying:
        yield f"Within rows vary {_write_fields(varying, trials)}."


def _name_network(trial: TrialConfig) -> str:
    return "-".join(getattr(trial, field) for field in NETWORK)


def _trials_of(packs: Sequence[Pack]) -> list[TrialConfig]:
    return [trial for pack in packs for trial in pack.trials]


def _values_of(field: str, trials: Sequence[TrialConfig]) -> list[Any]:
    """Return the values of a field, from small to large; names, which gains may have beside numbers, come last."""
    return sorted({getattr(trial, field) for trial in trials}, key=lambda value: (isinstance(value, str), value))


def _write_fields(fields: Sequence[str], trials: Sequence[TrialConfig]) -> str:
    return "; ".join(f"{field} {_write_values(_values_of(field, trials))}" for field in fields)


def _write_values(values: Sequence[Any]) -> str:
    """Write up to three values, and names, one by one; of more numbers the smallest and the largest."""
    if len(values) > 3 and not isinstance(values[-1], str):
        return f"{_write_value(values[0])} … {_write_value(values[-1])}"
    return ", ".join(map(_write_value, values))


def _write_value(value: Any) -> str:
    if isinstance(value, float):
        return short_number(value) if value else "0"
    return str(value)
