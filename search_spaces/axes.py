"""Axes → trials: the few words that search spaces are written in."""

import itertools
from collections.abc import Iterable
from typing import Any

from study.trial_config import TrialConfig, check_field_names


def grid(**axes: Any) -> list[TrialConfig]:
    """Return one trial for every combination of the axes' values; an axis is a field with several values, or one.

    Raises ValueError for a field that does not exist, a value that is out of range, or an axis without values.
    """
    check_field_names(axes)
    columns = [_as_values(values) for values in axes.values()]
    for name, values in zip(axes, columns, strict=True):
        if not values:
            raise ValueError(f"{name}: has no values; give at least one")
    return [TrialConfig.from_fields(dict(zip(axes, values, strict=True))) for values in itertools.product(*columns)]


def _as_values(values: Any) -> list[Any]:
    return list(values) if isinstance(values, Iterable) and not isinstance(values, str) else [values]
