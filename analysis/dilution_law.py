"""Explosion rates at several dilution levels → does r_k² = 1 + (r_0² − 1)/(k² + 1) hold?

The law is of the stationary state, and diluted networks take about k² + 1 layers to get there, so rates are taken over
the layers nearer to the logits of the deepest networks. χ_k = r_k². Under the law (χ_k − 1)(k² + 1) is the same for
every k. Dilution levels of one seed share their weights' random numbers: they are compared seed by seed.
Check: χ_0 = 1.46 and k = 1 give χ_1 = 1.23.
"""

import dataclasses
import math
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from analysis.estimates import write_p
from analysis.explosion_rates import measure_growth
from analysis.tidy_frames import ARCHITECTURE, StudyFrames
from analysis.uncertainty import t_interval

LAW_COLUMNS = [
    "network", "dilution", "depth", "seeds", "growth", "growth_low", "growth_high", "predicted_growth",
    "excess", "excess_low", "excess_high", "p_value", "note",
]  # fmt: skip
SIGNIFICANT = 0.05
LAYERS_TO_STATIONARITY = 2.0
"""In units of k² + 1: after so many, 2% of the way to the stationary state are left (exp(−2m/(k² + 1)))."""


@dataclasses.dataclass(frozen=True)
class DilutionLaw:
    """The law tested per network, in the late half of its deepest networks before training.

    `table` has LAW_COLUMNS, a row per network and dilution: `growth` is χ_k = r_k², `predicted_growth` the law's from
    the χ of the smallest k (of the seeds that have both); `excess` is (χ_k − 1)(k² + 1) less the same at the smallest
    k: 0 if the law holds. `p_value` is of excess = 0, Holm-corrected within the network. `verdicts` says it per network
    in a sentence.
    """

    table: pd.DataFrame
    verdicts: dict[str, str]
    note: str = ""


def check_dilution_law(frames: StudyFrames) -> DilutionLaw:
    """Test the law on untrained networks, at the greatest of the depths at which most of a network's k can be tested.

    A level that takes more layers to its stationary state than there are before the late half is not tested.
    """
    growth = measure_growth(frames, late_half=True)
    tables, verdicts = [], {}
    others = [name for name in ARCHITECTURE if name != "dilution"]
    for (name, *_), group in growth.groupby(["network", *others], sort=True):
        assert name not in verdicts, f"two networks have the name {name}"
        levels = group["dilution"].nunique()
        shared = group.groupby("depth")["dilution"].nunique()
        if levels < 2:
            continue
        if shared.max() < 2:
            verdicts[name] = "The law is not tested: no depth has two dilution levels."
            continue
        is_stationary = group["depth"] // 2 >= LAYERS_TO_STATIONARITY * (group["dilution"] ** 2 + 1)
        testable = group["dilution"].where(is_stationary).groupby(group["depth"]).nunique()
        testable = testable if testable.max() > 1 else shared
        depth = int(testable[testable == testable.max()].index.max())
        chosen = group[group["depth"] == depth]
        squared = np.exp(2 * chosen["ln_growth"] / chosen["layers"])
        by_seed = chosen.assign(growth=squared).pivot_table(index="seed", columns="dilution", values="growth")
        table = check_law(by_seed.columns.to_numpy(dtype=float), by_seed.to_numpy(), layers_before=depth // 2)
        tables.append(table.assign(network=name, depth=depth)[LAW_COLUMNS])
        verdicts[name] = _judge(table)
    if not tables:
        note = "The dilution law cannot be tested: no network was measured at two dilution levels of the same depth."
        return DilutionLaw(pd.DataFrame(columns=LAW_COLUMNS), verdicts, note)
    return DilutionLaw(pd.concat(tables, ignore_index=True), verdicts)


def check_law(dilutions: np.ndarray, growth: np.ndarray, layers_before: float = math.inf) -> pd.DataFrame:
    """Test the law from ascending dilutions [levels] and χ [seeds, levels], nan where a seed lacks a level.

    `layers_before` are those before the layers that χ was measured over. Returns LAW_COLUMNS without network and depth.
    """
    weights = dilutions**2 + 1
    scaled = (growth - 1) * weights
    excess = scaled - scaled[:, :1]
    is_stationary = layers_before >= LAYERS_TO_STATIONARITY * weights
    p_values = np.array([math.nan] + [_p_value(column) for column in excess.T[1:]])
    p_values[~is_stationary] = math.nan
    p_values[1:] = _correct_by_holm(p_values[1:])
    rows: list[dict[str, Any]] = []
    for level, dilution in enumerate(dilutions):
        seen = growth[np.isfinite(growth[:, level]), level]
        is_paired = np.isfinite(excess[:, level])
        paired = excess[is_paired, level]
        others = scaled[is_paired if is_paired.any() else np.isfinite(scaled[:, 0]), 0]
        reference = others.mean() if len(others) else math.nan
        mean, low, high = t_interval(seen)
        off = t_interval(paired) if level else (math.nan,) * 3
        rows.append(
            {"dilution": dilution, "seeds": len(seen), "growth": mean, "growth_low": low, "growth_high": high}
            | {"predicted_growth": 1 + reference / weights[level], "p_value": p_values[level]}
            | dict(zip(("excess", "excess_low", "excess_high"), off, strict=True))
            | {"note": _explain(level, len(paired), bool(is_stationary[level]), weights[level])}
        )
    return pd.DataFrame(rows)


def _p_value(differences: np.ndarray) -> float:
    """Two-sided p value of mean 0; nan for fewer than two, 1 or 0 where they do not vary at all."""
    differences = differences[np.isfinite(differences)]
    if len(differences) < 2:
        return math.nan
    error = differences.std(ddof=1) / math.sqrt(len(differences))
    if error < 1e-12:
        return 1.0 if abs(differences.mean()) < 1e-9 else 0.0
    return float(2 * stats.t.sf(abs(differences.mean() / error), len(differences) - 1))


def _correct_by_holm(p_values: np.ndarray) -> np.ndarray:
    """Return Holm's step-down p values; nan stays nan and does not count."""
    corrected = np.full(len(p_values), math.nan)
    known = np.flatnonzero(np.isfinite(p_values))
    order = known[np.argsort(p_values[known])]
    factors = len(order) - np.arange(len(order))
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(p_values[order] * factors)) if len(order) else []
    return corrected


def _explain(level: int, pairs: int, is_stationary: bool, weight: float) -> str:
    if level == 0:
        return "the level that others are predicted from"
    if not is_stationary:
        layers = LAYERS_TO_STATIONARITY * weight
        return f"no test: the stationary state takes {layers:.0f} layers, more than there are before"
    return "" if pairs > 1 else f"no test: {pairs or 'no'} seed has both levels, and it takes two"


def _judge(table: pd.DataFrame) -> str:
    tested = table.dropna(subset="p_value")
    if tested.empty:
        reason = "it takes two seeds at two dilution levels, and layers enough to reach their stationary state"
        return f"The law is not tested: {reason}."
    worst = tested.loc[tested["p_value"].idxmin()]
    if worst["p_value"] >= SIGNIFICANT:
        return (
            f"The law is not contradicted at k up to {tested['dilution'].max():g} (least {write_p(worst['p_value'])})."
        )
    growth = worst["predicted_growth"] + worst["excess"] / (worst["dilution"] ** 2 + 1)
    of_whom = " of the seeds that have both levels" if abs(growth - worst["growth"]) > 1e-9 else ""
    return (
        f"The law does not hold at k = {worst['dilution']:g}: χ{of_whom} is {growth:.4f} and the law says "
        f"{worst['predicted_growth']:.4f} ({write_p(worst['p_value'])})."
    )
