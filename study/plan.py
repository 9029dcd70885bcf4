"""A search space's trials and the options of a study → the packs to train, checked, and a page that shows them."""

import dataclasses
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from study.packing import Pack, check_distinct
from study.trial_config import TrialConfig
from study.work import FULL_TEST_SIZE, FULL_TRAIN_SIZE, training_flops

UNITS = {"TFLOP": 1e12, "GFLOP": 1e9, "MFLOP": 1e6}


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
    """Print how many trials and packs there are, of which shapes, and the arithmetic to come.

    `images` are those of both splits, where they are known.
    """
    sizes = images or (FULL_TRAIN_SIZE, FULL_TEST_SIZE)
    console.print(f"Study {name}: {len(trials)} trials in {len(packs)} packs.", highlight=False)
    total = sum(training_flops(trial, *sizes) for trial in trials)
    unit = next((unit for unit, size in UNITS.items() if total >= size), "MFLOP")
    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("network", "depth", "width", "optimizer", "epochs", "trials", "packs", unit):
        table.add_column(heading, justify="left" if heading == "network" else "right", no_wrap=True)
    shapes: dict[tuple, list[Pack]] = defaultdict(list)
    for pack in packs:
        first = pack.trials[0]
        shapes[f"{first.normalization}-{first.activation}", first.width, first.optimizer, first.epochs].append(pack)
    for (network, *shape), members in sorted(shapes.items()):
        flops = sum(training_flops(trial, *sizes) for pack in members for trial in pack.trials)
        trial_count = sum(len(pack.trials) for pack in members)
        depths = _write_range(sorted({pack.trials[0].depth for pack in members}))
        table.add_row(
            network, depths, *map(str, shape), str(trial_count), str(len(members)), f"{flops / UNITS[unit]:.2f}"
        )
    console.print(table)
    work = f"Work to come: {total / UNITS[unit]:,.1f} {unit} of training and evaluation, measurements left out"
    if not images and not all(trial.train_size and trial.test_size for trial in trials):
        work += "; where no train_size or test_size is given, for the 50,000 and 10,000 images of CIFAR-10"
    console.print(f"{work}.", highlight=False)


def _write_range(depths: list[int]) -> str:
    return ", ".join(map(str, depths)) if len(depths) <= 2 else f"{depths[0]} … {depths[-1]}"
