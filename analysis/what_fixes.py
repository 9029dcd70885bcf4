"""Best dilutions and trainable depths → what fixes it, in one sentence, which says what it cannot say."""

import math
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from analysis.best_dilution import BestDilutions
from analysis.estimates import parse_list
from analysis.tradeoff import SIGNIFICANT
from analysis.trainable_depth import TrainableDepths
from analysis.wording import describe_depth, give_reason, name_kinds, name_network


def say_what_fixes(best: BestDilutions, depths: TrainableDepths) -> str:
    """Say where dilution helps the most at the greatest depth that something trains at, and what it does to D50.

    Each row excludes k = 0 by chance in one case of 20 (SIGNIFICANT), so it takes more rows than that; those of one
    network and optimizer under different conditions hang together, and count as one.
    """
    table = best.table.dropna(subset=["best_dilution", "error", "error_without"])
    if table.empty:
        return f"Whether dilution fixes it cannot be told: {give_reason(best.note, best.table)}."
    limit = -math.inf if depths.failure_error is None else depths.failure_error
    trains = table[table["error"] <= limit]
    deepest = table[table["depth"] == (trains if len(trains) else table)["depth"].max()]
    where = f"at depth {deepest['depth'].iloc[0]:g}{_explain_depth(best.table, deepest, limit)}"
    if (deepest["best_dilution"] == 0).all():
        return f"No dilution that was tried lowers the training error of any network {where}."
    is_helped = np.array([0.0 not in parse_list(levels) for levels in deepest["not_excluded"]])
    helped = deepest[is_helped]
    if not _is_beyond_chance(deepest.assign(helped=is_helped)):
        row = _with_largest_gain(deepest[deepest["best_dilution"] > 0])
        most = f", which gains the most of {len(deepest)} {name_kinds(deepest)}," if len(deepest) > 1 else ""
        doubt = "k = 0 is not excluded as the best"
        if (deepest["seeds"] == 1).all():
            doubt = "k = 0 is not excluded as the best, which takes a second seed"
        if len(helped):
            doubt = f"k = 0 is excluded as the best in no more of them ({len(helped)}) than chance would do"
        return f"That dilution fixes it is not shown here: {_describe_effect(where, row, most)}, but {doubt}."
    failing = helped[helped["error_without"] > limit]
    fixed = failing if depths.failure_error is None else failing[failing["error"] <= limit]
    if len(fixed):
        verdict, among, which = "Dilution fixes it", fixed, "fail without it and not with it"
    else:
        every = best.table[best.table["depth"] == deepest["depth"].iloc[0]]
        may_fix = ((every["error_without"] > limit) & (every["error"] <= limit)).any()
        verdict = "is not shown to fix a failing" if may_fix else "fixes no failing"
        if not (every["error_without"] > limit).any():
            verdict = "nothing fails without it, on average"
        among, which = (failing, "fail, with it too") if len(failing) else (helped, "gain beyond chance")
        verdict = f"Dilution lowers errors, but {verdict}"
    row, most, count = _with_largest_gain(among), "", ""
    if len(deepest) > 1:
        most = f", which gains the most of {len(among)} that {which}," if len(among) > 1 else ""
        count = f" (k = 0 is excluded as the best in {len(helped)} of {len(deepest)} {name_kinds(deepest)})"
    gain = _describe_gain(row, depths.table) if len(failing) else ""
    return f"{verdict}: {_describe_effect(where, row, most)}{count}{gain}."


def _explain_depth(every: pd.DataFrame, deepest: pd.DataFrame, limit: float) -> str:
    """Say why the depth that is spoken of is not the greatest that was trained."""
    beyond = every[every["depth"] == every["depth"].max()]
    if beyond["depth"].iloc[0] == deepest["depth"].iloc[0]:
        return ""
    is_tied, has_none = beyond["best_dilution"].isna(), beyond["error_without"].isna()
    reason = "every level fails, on average, none has a smaller error than others, or there is none with k = 0"
    if is_tied.all():
        reason = "no level has a smaller error than others"
    elif has_none.all():
        reason = "there is no error with k = 0 to compare with"
    elif math.isfinite(limit) and (beyond["error"] > limit).all():
        reason = "every level fails, on average"
    return f" (at depth {beyond['depth'].iloc[0]:g} {reason})"


def _with_largest_gain(rows: pd.DataFrame) -> Any:
    return rows.loc[(rows["error_without"] - rows["error"]).idxmax()]


def _describe_effect(where: str, row: Any, most: str) -> str:
    decimals = 2 if f"{row['error']:.2f}" != f"{row['error_without']:.2f}" else 3
    errors = f"{row['error']:.{decimals}f} instead of {row['error_without']:.{decimals}f} without"
    level = f"k = {row['best_dilution']:g}{_describe_levels(row)}"
    return f"{where}, {name_network(row)}{most} has its smallest training error with {level}, {errors}"


def _is_beyond_chance(rows: pd.DataFrame) -> bool:
    """Whether k = 0 is excluded more often than chance would do, from `helped`; conditions have shares in one count."""
    shares = rows.groupby(["architecture", "optimizer"])["helped"].mean()
    count = math.floor(shares.sum() + 1e-9)
    return count > 0 and bool(stats.binom.sf(count - 1, len(shares), SIGNIFICANT) <= SIGNIFICANT)


def _describe_gain(row: Any, table: pd.DataFrame) -> str:
    """Say from where to where dilution moves the trainable depth of a network, if both are known."""
    own = table[(table["network"] == row["network"]) & (table["optimizer"] == row["optimizer"])]
    own = own[own[["d50", "d50_low", "d50_high"]].notna().any(axis=1)].set_index("dilution")
    if 0.0 not in own.index or row["best_dilution"] not in own.index:
        return ""
    before, after = describe_depth(own.loc[0.0]), describe_depth(own.loc[row["best_dilution"]])
    if before == after:
        return ""
    return f"; half of its trainings fail {after} with it, {before} without"


def _describe_levels(row: Any) -> str:
    low, high = row["low"], row["high"]
    if math.isnan(low) and math.isnan(high):
        return ""
    if math.isnan(high):
        return f" (95%: at least {low:g})"
    if math.isnan(low):
        return f" (95%: at most {high:g})"
    return f" (95% interval {low:g} to {high:g})" if low < high else " (95%: no other level that was tried)"
