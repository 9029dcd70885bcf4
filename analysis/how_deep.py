"""Trainable depths → how deep these networks can be trained, in one sentence, which says what it cannot say."""

import math

import numpy as np
import pandas as pd

from analysis.section import write_number
from analysis.trainable_depth import TrainableDepths
from analysis.wording import describe_depth, give_reason, name_kinds, name_network

HARDLY_EXPLODING = 2
"""A GSC that is smaller where half of the trainings fail is not what stops them."""


def say_how_deep(depths: TrainableDepths, epochs: str = "") -> str:
    """Name the shallowest and the deepest trainable depth among the networks with the least dilution.

    `epochs` says how long was trained: " after 4 epochs".
    """
    known = depths.table[depths.table[["d50", "d50_low", "d50_high"]].notna().any(axis=1)]
    if known.empty:
        return f"How deep these networks can be trained cannot be told: {give_reason(depths.note, depths.table)}."
    least = known["dilution"].min()
    plain = known[known["dilution"] == least]
    path = "without skip paths (k = 0)" if least == 0 else f"with the least dilution that tells (k = {least:g})"
    fail = "fail" if depths.failure_error is None else f"fail (end above a training error of {depths.failure_error:.3g}"
    fail += "" if depths.failure_error is None else f"{epochs})"
    theory = _compare_with_theory(plain)
    if len(plain) == 1:
        only = plain.iloc[0]
        return f"Half of the trainings of {name_network(only)} {path} {fail} {describe_depth(only)}{theory}."
    texts = plain.apply(describe_depth, axis=1)
    if texts.nunique() == 1:
        who = _name_all(plain) if len(plain) == 2 else f"all {len(plain)} {name_kinds(plain)}"
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
    sides = [
        (side, count, known[end].notna().sum())
        for side, count, end in (("deeper", deeper, "d50_high"), ("shallower", shallower, "d50_low"))
        if count
    ]
    least, most = (_write_limit(depth) for depth in (known["rule_depth"].min(), known["rule_depth"].max()))
    allowed = f"the depth that theory allows, 16/ln χ, is {least}{f' to {most}' if most != least else ''}"
    compared = known[["d50_low", "d50_high"]].notna().any(axis=1).sum()
    if not compared:
        return f"; {allowed} (there is no interval to compare it with)"
    if not sides:
        return f"; {allowed}, which is not contradicted"
    if len(known) == 1:
        whose = "that interval" if len(plain) == 1 else f"the interval of {name_network(known.iloc[0])}"
        return f"; {allowed}, {sides[0][0]} than {whose}{_name_unexploding(known)}"
    counts = " and ".join(f"{side} than the interval in {count} of {told}" for side, count, told in sides)
    return f"; {allowed}, {counts}{_name_unexploding(known)}"


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
            of_whom = name_kinds(plain) if len(place) == len(plain) else "that can be ranked"
            parts[0] += f", the shallowest of {few} {of_whom}"
            parts.append(f"{last} for {_name_all(plain.loc[ranked.index[ranked == last]])}, the deepest of them")
    rest = texts[texts.index.difference(place.index, sort=False)]
    parts += [f"{text} for {_name_all(plain.loc[group.index])}" for text, group in rest.groupby(rest, sort=False)]
    return ", and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else parts[0]


def _name_all(rows: pd.DataFrame) -> str:
    """Name those that share a depth, the first of them if they are many."""
    names = [name_network(row) for _, row in rows.iterrows()]
    return " and ".join(names) if len(names) <= 2 else f"{names[0]} and {len(names) - 1} more"
