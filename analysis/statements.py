"""Estimates → the answer in three sentences: how deep, what stops it, what fixes it. Each says what it cannot say."""

import math
from typing import Any

import numpy as np
import pandas as pd

from analysis.best_dilution import BestDilutions
from analysis.section import write_number
from analysis.tradeoff import Tradeoff
from analysis.trainable_depth import TrainableDepths

GSC_TERM = "ln GSC"
ODDS_SHOWN = 1e6
"""Odds beyond this factor say no more than that they are large."""


def say_how_deep(depths: TrainableDepths) -> str:
    """Name the shallowest and the deepest trainable depth among the networks with the least dilution."""
    known = depths.table[depths.table[["d50", "d50_low", "d50_high"]].notna().any(axis=1)]
    if known.empty:
        return f"How deep these networks can be trained cannot be told: {_reason(depths.note, depths.table)}."
    least = known["dilution"].min()
    plain = known[known["dilution"] == least]
    plain = plain.loc[sorted(plain.index, key=lambda row: _place_depth(plain.loc[row]))]
    path = "without skip paths (k = 0)" if least == 0 else f"with the least dilution tried (k = {least:g})"
    if len(plain) == 1:
        return f"Half of the trainings of {_name(plain.iloc[0])} {path} fail {_describe_depth(plain.iloc[0])}."
    depths = plain.apply(_describe_depth, axis=1)
    first, last = depths.iloc[0], depths.iloc[-1]
    if depths.nunique() == 1:
        return f"Half of the trainings {path} fail {first} for all {len(plain)} networks and optimizers."
    return (
        f"Half of the trainings {path} fail {first} for {_name_all(plain[depths == first])}, the shallowest of "
        f"{len(plain)} networks and optimizers, and {last} for {_name_all(plain[depths == last])}, the deepest."
    )


def say_what_stops(tradeoff: Tradeoff) -> str:
    """Say by how much ten times the GSC raises the odds of failure, and whether GSC suffices."""
    rows = tradeoff.coefficients[tradeoff.coefficients["term"] == GSC_TERM].dropna(subset="coefficient")
    if rows.empty:
        return f"What stops training cannot be told: {_reason(tradeoff.note, tradeoff.coefficients)}."
    row = rows.iloc[0]
    factor = f"multiplies the odds of failure by {_write_odds(row['coefficient'])}"
    if not np.isnan([row["low"], row["high"]]).any():
        factor += f" (95% interval {_write_odds(row['low'])} to {_write_odds(row['high'])})"
    what = f"ten times the GSC before training, at equal depth and pseudo-linearity, {factor}"
    more = f"; {_as_clause(tradeoff.depth_adds)}" if tradeoff.depth_adds else ""
    if row["low"] > 0 and row["low_between_networks"] <= 0:
        between = f"{_write_odds(row['low_between_networks'])} to {_write_odds(row['high_between_networks'])}"
        return (
            f"Exploding gradients go with failure in these networks: {what}; networks differ too much to say that it "
            f"holds for others (95% interval between networks {between}){more}."
        )
    if row["low"] > 0:
        return f"Exploding gradients stop training: {what}{more}."
    if row["high"] < 0:
        return f"Exploding gradients are not what stops training here: {what}{more}."
    return f"That exploding gradients stop training is not shown here: {what}{more}."


def say_what_fixes(best: BestDilutions, depths: TrainableDepths) -> str:
    """Say which dilution helps the most at the greatest depth, and what it does to the trainable depth."""
    table = best.table.dropna(subset=["best_dilution", "error", "error_without"])
    if table.empty:
        return f"Whether dilution fixes it cannot be told: {_reason(best.note, best.table)}."
    deepest = table[table["depth"] == table["depth"].max()]
    row = deepest.loc[(deepest["error_without"] - deepest["error"]).idxmax()]
    errors = f"{row['error']:.2f} instead of {row['error_without']:.2f} without"
    where = f"at depth {row['depth']:g}"
    if row["best_dilution"] == 0:
        return f"No dilution that was tried lowers the training error of any network {where}."
    level = f"k = {row['best_dilution']:g}"
    interval = _describe_levels(row)
    effect = f"{where}, {_name(row)} has its smallest training error with {level}{interval}, {errors}"
    if 0.0 in _parse_levels(row["not_excluded"]):
        return f"That dilution fixes it is not shown here: {effect}, but k = 0 is not excluded as the best."
    return f"Dilution fixes it: {effect}{_describe_gain(row, depths.table)}."


def _describe_gain(row: Any, table: pd.DataFrame) -> str:
    """Say from where to where dilution moves the trainable depth of a network, if both are known."""
    own = table[(table["network"] == row["network"]) & (table["optimizer"] == row["optimizer"])]
    own = own[own[["d50", "d50_low", "d50_high"]].notna().any(axis=1)].set_index("dilution")
    if 0.0 not in own.index or row["best_dilution"] not in own.index:
        return ""
    before, after = _describe_depth(own.loc[0.0]), _describe_depth(own.loc[row["best_dilution"]])
    return f"; half of its trainings fail {after} with it, {before} without"


def _parse_levels(text: object) -> list[float]:
    """Return the levels of "0, 1, 2"."""
    return [float(level) for level in str(text).replace(",", " ").split()]


def _describe_levels(row: Any) -> str:
    low, high = row["low"], row["high"]
    if math.isnan(low) and math.isnan(high):
        return ""
    if math.isnan(high):
        return f" (95%: at least {low:g})"
    if math.isnan(low):
        return f" (95%: at most {high:g})"
    return f" (95% interval {low:g} to {high:g})" if low < high else " (95%: no other level that was tried)"


def _describe_depth(row: Any) -> str:
    value, low, high = (row[column] for column in ("d50", "d50_low", "d50_high"))
    if math.isnan(value):
        return f"only beyond depth {low:.3g} (95% bound)" if not math.isnan(low) else f"by depth {high:.3g} (95% bound)"
    if math.isnan(low) and math.isnan(high):
        return f"at depth {value:.3g} (no interval)"
    if math.isnan(high):
        return f"at depth {value:.3g} (95%: at least {low:.3g})"
    if math.isnan(low):
        return f"at depth {value:.3g} (95%: at most {high:.3g})"
    return f"at depth {value:.3g} (95% interval {low:.3g} to {high:.3g})"


def _place_depth(row: Any) -> tuple[int, float]:
    """Order by estimate; below all of them what fails at every depth, above them what trains at every depth."""
    if not math.isnan(row["d50"]):
        return 0, float(row["d50"])
    return (1, float(row["d50_low"])) if not math.isnan(row["d50_low"]) else (-1, float(row["d50_high"]))


def _name(row: Any) -> str:
    return f"{row['network']} with {row['optimizer']}"


def _name_all(rows: pd.DataFrame) -> str:
    """Name those that share a depth, the first of them if they are many."""
    names = [_name(row) for _, row in rows.iterrows()]
    return " and ".join(names) if len(names) <= 2 else f"{names[0]} and {len(names) - 1} more"


def _write_odds(coefficient: float) -> str:
    """Write what ten times the GSC does to the odds."""
    factor = 10 ** float(np.clip(coefficient, -12, 12))
    if factor > ODDS_SHOWN:
        return "more than a million"
    return "less than a millionth" if factor < 1 / ODDS_SHOWN else write_number(factor)


def _as_clause(sentence: str) -> str:
    first = sentence.partition(" ")[0]
    kept = first.isupper()  # GSC is a name
    return (sentence if kept else sentence[0].lower() + sentence[1:]).rstrip(".")


def _reason(note: str, table: pd.DataFrame) -> str:
    """Return why there is nothing: the table's own note, or that of its first row which has one."""
    notes = [note, *(str(text) for text in table.get("note", pd.Series(dtype=str)) if text)]
    return next((text.rstrip(".") for text in notes if text), "the study holds too little for it")
