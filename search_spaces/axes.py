"""Axes → trials: the few words that search spaces are written in."""

import itertools
from collections.abc import Sequence
from typing import Any

from study.trial_config import TrialConfig, check_field_names


def grid(**axes: Any) -> list[TrialConfig]:
    """Return one trial for every combination of the axes' values; an axis is a field with a list, or one value.

    Raises ValueError for a field that does not exist, a value that is out of range, or an axis without values.
    """
    check_field_names(axes)
    for name, values in axes.items():
        if isinstance(values, (list, tuple, range)) and not values:
            raise ValueError(f"{name}: has no values; give at least one")
    columns = [values if _is_axis(values) else [values] for values in axes.values()]
    return [TrialConfig.from_fields(dict(zip(axes, values, strict=True))) for values in itertools.product(*columns)]


def _is_axis(values: Any) -> bool:
    return isinstance(values, Sequence) and not isinstance(values, str)
