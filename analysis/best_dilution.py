"""Errors over dilution levels → the dilution that minimises error at each depth, with its interval.

A level is excluded where its mean is above that of any other by a one-sided t test at 5% shared among them
(Bonferroni; Hsu's multiple comparisons with the best), with the variance over seeds pooled over levels; the others are
kept. If error has one minimum over k, that minimum lies between the neighbours of the best level: the interval goes
from the level below the lowest that is kept to the one above the highest, and is open where there is none. No curve is
assumed.
Check: levels 0, 1, 2, 4 with errors 0.8, 0.5, 0.4, 0.5 and hardly any noise: 2, and the interval is 1 to 4.
"""

import dataclasses
import math
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from analysis.best_learning_rates import choose_outcomes
from analysis.estimates import Estimate, write_list
from analysis.tidy_frames import StudyFrames

DILUTION_COLUMNS = [
    "network", "optimizer", "architecture", "depth", "levels", "seeds", "best_dilution", "low", "high", "written",
    "error", "error_without", "not_excluded", "note",
]  # fmt: skip


@dataclasses.dataclass(frozen=True)
class BestDilutions:
    """`table` has DILUTION_COLUMNS, a row per network, optimizer and depth; `note` says why it is empty.

    `error` is the mean final training error at the best level, `error_without` that at k = 0 where it was tried,
    `not_excluded` the levels that may be the best. Learning rates are chosen by other seeds.
    """

    table: pd.DataFrame
    note: str = ""


def estimate_best_dilutions(frames: StudyFrames, failure_error: float | None = None) -> BestDilutions:
    """Estimate, per network, optimizer and depth, which dilution gives the smallest final training error."""
    outcomes = choose_outcomes(frames, failure_error)
    rows = []
    for (network, optimizer, depth), group in outcomes.table.groupby(["network", "optimizer", "depth"], sort=True):
        if group["dilution"].nunique() > 1:
            rows.append({"network": network, "optimizer": optimizer, "depth": depth, **_make_row(group)})
    note = outcomes.note
    if not rows and not outcomes.table.empty:
        note = "There is no best dilution: at no depth was more than one level tried."
    return BestDilutions(pd.DataFrame(rows, columns=DILUTION_COLUMNS), note)


def find_best_dilution(dilutions: np.ndarray, errors: np.ndarray) -> tuple[Estimate, list[float]]:
    """Return the best of the levels tried, and all that cannot be excluded, from single trials [trials] each.

    The estimate is the level with the smallest mean; its interval holds the minimum over all k, if there is one.
    """
    dilutions, errors = np.asarray(dilutions, dtype=float), np.asarray(errors, dtype=float)
    known = np.isfinite(dilutions) & np.isfinite(errors)
    if not known.any():
        return Estimate(note="no training ended"), []
    levels, places = np.unique(dilutions[known], return_inverse=True)
    sizes = np.bincount(places)
    means = np.bincount(places, weights=errors[known]) / sizes
    best = int(means.argmin())
    if len(levels) == 1:
        return Estimate(note=f"k = {levels[0]:g} alone was tried"), levels.tolist()
    if np.ptp(means) < 1e-12:
        return Estimate(note=f"all {len(levels)} levels have the same error"), levels.tolist()
    freedom = int(sizes.sum() - len(levels))
    if freedom < 1:
        return Estimate(levels[best], note="one seed: no interval"), levels.tolist()
    variance = float(((errors[known] - means[places]) ** 2).sum() / freedom)
    kept = _keep(means, sizes, variance, freedom)
    first, last = int(kept.min()), int(kept.max())
    low = None if first == 0 else float(levels[first - 1])
    high = None if last == len(levels) - 1 else float(levels[last + 1])
    # k = 0 is the end of the scale, not of what was tried.
    low = 0.0 if low is None and levels[0] == 0 else low
    if high is None and (low is None or low == 0):
        note = f"no interval: any of k = {write_list(levels[kept])} may be the best"
        if len(kept) < len(levels):
            excluded = np.delete(levels, kept)
            not_best = f"k = {write_list(excluded)} is not the best"
            note = f"no interval: {not_best}, and more than k = {levels[-1]:g} was not tried"
        return Estimate(levels[best], note=note), levels[kept].tolist()
    note = "" if high is not None else f"the greatest level tried, k = {levels[-1]:g}, may not be enough"
    return Estimate(levels[best], low, high, note), levels[kept].tolist()


def _keep(means: np.ndarray, sizes: np.ndarray, variance: float, freedom: int) -> np.ndarray:
    """Return the places of levels whose mean is not significantly above that of any other level."""
    quantile = stats.t.ppf(1 - 0.05 / (len(means) - 1), freedom)
    errors = np.sqrt(variance * (1 / sizes[:, None] + 1 / sizes))
    worse = means[:, None] - means > np.maximum(quantile * errors, 1e-12)
    return np.flatnonzero(~worse.any(axis=1))


def _make_row(group: pd.DataFrame) -> dict[str, Any]:
    estimate, kept = find_best_dilution(group["dilution"].to_numpy(), group["error"].to_numpy())
    means = group.groupby("dilution")["error"].mean()
    return {
        "architecture": group["architecture"].iloc[0],
        "levels": write_list(means.index),
        "seeds": int(group.groupby("dilution")["seed"].nunique().min()),
        **estimate.as_columns("best_dilution", "low", "high"),
        "written": estimate.write(),
        "error": means.min(),
        "error_without": means.get(0.0, math.nan),
        "not_excluded": write_list(kept),
        "note": estimate.note,
    }
