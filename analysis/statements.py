"""Estimates → the answer in three sentences: how deep, what stops it, what fixes it. Each says what it cannot say."""

import math
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from analysis.best_dilution import BestDilutions
from analysis.estimates import parse_list
from analysis.failure_design import DEPTH, GSC, LINEARITY
from analysis.section import write_number
from analysis.tradeoff import EVERY_NETWORK, MODELS, SIGNIFICANT, UNTOLD, Tradeoff
from analysis.trainable_depth import TrainableDepths

ODDS_SHOWN = 1e6
"""Odds beyond this factor say no more than that they are large."""
ODDS_DIGITS = math.log10(ODDS_SHOWN)
HARDLY_EXPLODING = 2
"""A GSC that is smaller where half of the trainings fail is not what stops them."""


def say_how_deep(depths: TrainableDepths, epochs: str = "") -> str:
    """Name the shallowest and the deepest trainable depth among the networks with the least dilution.

    `epochs` says how long was trained: " after 4 epochs".
    """
    known = depths.table[depths.table[["d50", "d50_low", "d50_high"]].notna().any(axis=1)]
    if known.empty:
        return f"How deep these networks can be trained cannot be told: {_reason(depths.note, depths.table)}."
    least = known["dilution"].min()
    plain = known[known["dilution"] == least]
    path = "without skip paths (k = 0)" if least == 0 else f"with the least dilution that tells (k = {least:g})"
    fail = "fail" if depths.failure_error is None else f"fail (end above a training error of {depths.failure_error:.3g}"
    fail += "" if depths.failure_error is None else f"{epochs})"
    theory = _compare_with_theory(plain)
    if len(plain) == 1:
        only = plain.iloc[0]
        return f"Half of the trainings of {_name(only)} {path} {fail} {_describe_depth(only)}{theory}."
    texts = plain.apply(_describe_depth, axis=1)
    if texts.nunique() == 1:
        who = _name_all(plain) if len(plain) == 2 else f"all {len(plain)} {_name_kinds(plain)}"
        return f"Half of the trainings {path} {fail} {texts.iloc[0]} for {who}{theory}."
    return f"Half of the trainings {path} {fail} {_list_depths(plain, texts)}{theory}."


def _compare_with_theory(plain: pd.DataFrame) -> str:
    """Say on which side of the intervals of D50 the depth lies that theory allows, where both are known."""
    known = plain.dropna(subset=["rule_depth"])
    if known.empty:
        return ""
    # The end of the rule's interval that is nearer to D50; with one seed it has none.
    deeper = (known["rule_depth_low"].fillna(known["rule_depth"]) > known["d50_high"]).sum()
    shallower = (known["rule_depth_high"].fillna(known["rule_depth"]) < known["d50_low"]).sum()
    least, most = (_write_limit(depth) for depth in (known["rule_depth"].min(), known["rule_depth"].max()))
    allowed = f"the depth that theory allows, 16/ln χ, is {least}{f' to {most}' if most != least else ''}"
    compared = known[["d50_low", "d50_high"]].notna().any(axis=1).sum()
    if not compared:
        return f"; {allowed} (there is no interval to compare it with)"
    if not deeper and not shallower:
        return f"; {allowed}, which is not contradicted"
    sides = [(side, count) for side, count in (("deeper", deeper), ("shallower", shallower)) if count]
    if len(known) == 1:
        return f"; {allowed}, {sides[0][0]} than that interval{_name_unexploding(known)}"
    return (
        f"; {allowed}, {' and '.join(f'{side} than the interval in {count}' for side, count in sides)} of "
        f"{compared}{_name_unexploding(known)}"
    )


def _write_limit(depth: float) -> str:
    return "unlimited" if math.isinf(depth) else write_number(depth)


def _name_unexploding(known: pd.DataFrame) -> str:
    """Name the networks that fail at depths where their gradients hardly explode, however they are trained."""
    is_small = known["critical_log10_gsc_high"] < math.log10(HARDLY_EXPLODING)
    networks = [network for network, own in is_small.groupby(known["architecture"]) if own.all()]
    if not networks:
        return ""
    names = " and ".join([", ".join(networks[:-1]), networks[-1]]) if len(networks) > 1 else networks[0]
    where = f"where half of {names} fail, GSC is below {HARDLY_EXPLODING}"
    return f" ({where}: something else than exploding gradients stops them)"


def _list_depths(plain: pd.DataFrame, texts: pd.Series) -> str:
    """Write the extremes of those that have an estimate or two bounds, and who has one bound, which ranks nobody."""
    place = plain["d50"].fillna(np.sqrt(plain["d50_low"] * plain["d50_high"])).dropna().sort_values(kind="stable")
    parts = []
    if len(place):
        first, last = texts[place.index[0]], texts[place.index[-1]]
        ranked = texts[place.index]
        few = "two" if len(place) == 2 else str(len(place))
        parts.append(f"{first} for {_name_all(plain.loc[ranked.index[ranked == first]])}")
        if len(place) > 1 and first != last:
            of_whom = _name_kinds(plain) if len(place) == len(plain) else "that can be ranked"
            parts[0] += f", the shallowest of {few} {of_whom}"
            parts.append(f"{last} for {_name_all(plain.loc[ranked.index[ranked == last]])}, the deepest of them")
    rest = texts[texts.index.difference(place.index, sort=False)]
    parts += [f"{text} for {_name_all(plain.loc[group.index])}" for text, group in rest.groupby(rest, sort=False)]
    return ", and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else parts[0]


def say_what_stops(tradeoff: Tradeoff) -> str:
    """Say by how much ten times the GSC raises the odds of failure, and whether GSC suffices."""
    rows_of_gsc = tradeoff.coefficients[tradeoff.coefficients["term"] == GSC]
    rows = rows_of_gsc.dropna(subset="coefficient")
    if rows.empty:
        return f"What stops training cannot be told: {_reason(tradeoff.note, rows_of_gsc)}."
    row = rows.iloc[0]
    factor = f"multiplies the odds of failure by {_write_odds(row['coefficient'])}"
    if row["low"] < -ODDS_DIGITS and row["high"] > ODDS_DIGITS:
        factor = "may raise or lower the odds of failure by any factor"
    elif not np.isnan([row["low"], row["high"]]).any():
        factor += f" (95% interval {_write_odds(row['low'])} to {_write_odds(row['high'])})"
    what = f"ten times the GSC before training{_at_equal_others(tradeoff.coefficients)} {factor}"
    more = f"; {_as_clause(tradeoff.depth_adds)}" if tradeoff.depth_adds else ""
    better, scores = _compare_on_left_out(tradeoff.scores)
    if better is False:
        return (
            f"That exploding gradients stop training is not shown here: {scores}. In the fit to all networks, "
            f"{what}{more}."
        )
    more += f"; {scores}" if scores else ""
    if row["low"] > 0 and row["low_between_networks"] <= 0:
        between = f"{_write_odds(row['low_between_networks'])} to {_write_odds(row['high_between_networks'])}"
        return (
            f"Exploding gradients go with failure in these networks: {what}; networks differ too much to say that it "
            f"holds for others (95% interval between networks {between}){more}."
        )
    if row["low"] > 0 and math.isnan(row["low_between_networks"]):
        few = "" if UNTOLD in more else f"; {UNTOLD}"
        return f"Exploding gradients go with failure in these networks: {what}{few}{more}."
    if row["low"] > 0:
        return f"Exploding gradients stop training: {what}{more}."
    if row["high"] < 0:
        return f"Exploding gradients are not what stops training here: {what}{more}."
    return f"That exploding gradients stop training is not shown here: {what}{more}."


def _at_equal_others(coefficients: pd.DataFrame) -> str:
    """Name the covariates that are in the fit beside GSC."""
    fitted = set(coefficients.dropna(subset="coefficient")["term"])
    others = [name for term, name in ((DEPTH, "depth"), (LINEARITY, LINEARITY)) if term in fitted]
    return f", at equal {' and '.join(others)}," if others else ""


def _compare_on_left_out(scores: pd.DataFrame) -> tuple[bool | None, str]:
    """Say whether knowing GSC helps to predict networks that were left out of the fit; None where none could be."""
    whole = scores[scores["held_out"] == EVERY_NETWORK].dropna(subset="log_loss") if len(scores) else scores
    if not len(whole):
        return None, ""
    loss = whole.set_index("model")["log_loss"].astype(float)
    informed = [model for model in loss.index if GSC in MODELS[model]]
    best, rival = loss[informed].idxmin(), loss.drop(informed).idxmin()
    if loss[best] < loss[rival]:
        return (
            True,
            f"networks left out of the fit are predicted best from {best} (log loss {loss[best]:.3f}; without GSC "
            f"{loss[rival]:.3f})",
        )
    return False, (
        f"networks left out of the fit are predicted no better with GSC (log loss {loss[best]:.3f}) than from "
        f"{rival} ({loss[rival]:.3f})"
    )


def say_what_fixes(best: BestDilutions, depths: TrainableDepths) -> str:
    """Say where dilution helps the most at the greatest depth, and what it does to the trainable depth.

    Each row excludes k = 0 by chance in one case of 20 (SIGNIFICANT), so it takes more rows than that; those of one
    network and optimizer under different conditions hang together, and count as one.
    """
    table = best.table.dropna(subset=["best_dilution", "error", "error_without"])
    if table.empty:
        return f"Whether dilution fixes it cannot be told: {_reason(best.note, best.table)}."
    deepest = table[table["depth"] == table["depth"].max()]
    where = f"at depth {deepest['depth'].iloc[0]:g}{_explain_depth(best.table, deepest)}"
    if (deepest["best_dilution"] == 0).all():
        return f"No dilution that was tried lowers the training error of any network {where}."
    is_helped = np.array([0.0 not in parse_list(levels) for levels in deepest["not_excluded"]])
    helped = deepest[is_helped]
    if not _is_beyond_chance(deepest.assign(helped=is_helped)):
        row = _with_largest_gain(deepest[deepest["best_dilution"] > 0])
        most = f", which gains the most of {len(deepest)} {_name_kinds(deepest)}," if len(deepest) > 1 else ""
        doubt = "k = 0 is not excluded as the best"
        if (deepest["seeds"] == 1).all():
            doubt = "k = 0 is not excluded as the best, which takes a second seed"
        if len(helped):
            doubt = f"k = 0 is excluded as the best in no more of them ({len(helped)}) than chance would do"
        return f"That dilution fixes it is not shown here: {_describe_effect(where, row, most)}, but {doubt}."
    limit = -math.inf if depths.failure_error is None else depths.failure_error
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
        count = f" (k = 0 is excluded as the best in {len(helped)} of {len(deepest)} {_name_kinds(deepest)})"
    gain = _describe_gain(row, depths.table) if len(failing) else ""
    return f"{verdict}: {_describe_effect(where, row, most)}{count}{gain}."


def _explain_depth(every: pd.DataFrame, deepest: pd.DataFrame) -> str:
    """Say why the greatest depth at which something can be compared is not the greatest that was trained."""
    beyond = every[every["depth"] == every["depth"].max()]
    if beyond["depth"].iloc[0] == deepest["depth"].iloc[0]:
        return ""
    is_tied, has_none = beyond["best_dilution"].isna(), beyond["error_without"].isna()
    reason = "no level has a smaller error than others, or there is none with k = 0"
    if is_tied.all():
        reason = "no level has a smaller error than others"
    elif has_none.all():
        reason = "there is no error with k = 0 to compare with"
    return f" (at depth {beyond['depth'].iloc[0]:g} {reason})"


def _with_largest_gain(rows: pd.DataFrame) -> Any:
    return rows.loc[(rows["error_without"] - rows["error"]).idxmax()]


def _describe_effect(where: str, row: Any, most: str) -> str:
    decimals = 2 if f"{row['error']:.2f}" != f"{row['error_without']:.2f}" else 3
    errors = f"{row['error']:.{decimals}f} instead of {row['error_without']:.{decimals}f} without"
    level = f"k = {row['best_dilution']:g}{_describe_levels(row)}"
    return f"{where}, {_name(row)}{most} has its smallest training error with {level}, {errors}"


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
    before, after = _describe_depth(own.loc[0.0]), _describe_depth(own.loc[row["best_dilution"]])
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


def _describe_depth(row: Any) -> str:
    value, low, high = (row[column] for column in ("d50", "d50_low", "d50_high"))
    at, least, most = (write_number(depth) for depth in (value, low, high))
    if math.isnan(value):
        if not math.isnan(low) and not math.isnan(high):
            return f"between depth {least} and {most} (95% interval)"
        return f"only beyond depth {least} (95% bound)" if not math.isnan(low) else f"by depth {most} (95% bound)"
    if math.isnan(low) and math.isnan(high):
        why = str(row["note"]).partition(",")[0]
        return f"at depth {at} (no interval{f': {why}' if why else ''})"
    if math.isnan(high):
        return f"at depth {at} (95%: at least {least})"
    if math.isnan(low):
        return f"at depth {at} (95%: at most {most})"
    return f"at depth {at} (95% interval {least} to {most})"


def _name(row: Any) -> str:
    return f"{row['network']} with {row['optimizer']}"


def _name_kinds(rows: pd.DataFrame) -> str:
    """Name what there is a row of."""
    repeated = rows.duplicated(["architecture", "optimizer"]).any()
    return "networks, optimizers and conditions" if repeated else "networks and optimizers"


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
    """Return why there is nothing: the note of the first row that has one, or the table's own."""
    notes = [*(str(text) for text in table.get("note", pd.Series(dtype=str)) if text), note]
    return next((_as_clause(text) for text in notes if text), "the study holds too little for it")
