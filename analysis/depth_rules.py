"""Outcomes at several depths → which rule tells where training fails: a depth, 16/ln χ or a critical GSC.

Every rule says at which depth D* half of the trainings of a network (with its dilution) fail; the curve of
`failure_curve` with the same σ and λ for all does the rest:
    one depth for all    D* = c
    κ/ln χ               D* = κ / ln χ, with χ = r² the measured growth before training
    16/ln χ              the same with κ = 16 (Yang et al. 2019, "A mean field theory of batch normalization")
    one critical GSC     D* is where log10 GSC of untrained networks, a straight line over depth, reaches g
A rule has one constant at most, so that all its likelihoods fit into one table, and leaving a network out is taking
its part away. Where nothing explodes the last three put D* out of reach.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from scipy import special, stats

from analysis.best_learning_rates import choose_outcomes
from analysis.estimates import write_p
from analysis.failure_curve import LAPSES, SPREADS, find_interval, log_probabilities, penalty
from analysis.tidy_frames import StudyFrames
from analysis.trainable_depth import estimate_cell_rates, fit_gsc_line
from study.mean_field import TRAINABLE_SQUARED_GROWTH

RULE_COLUMNS = [
    "optimizer", "conditions", "rule", "constant", "constant_low", "constant_high", "unit", "parameters",
    "log_likelihood", "aic", "p_against_own", "held_out_log_loss", "cells", "trials", "note",
]  # fmt: skip
OWN, ONE_DEPTH, SCALED, YANG, CRITICAL = (
    "own D50 per architecture", "one depth for all", "κ/ln χ", "16/ln χ", "one critical GSC",
)  # fmt: skip
OUT_OF_REACH = 1e6
"""A depth at which nothing that was tried fails."""
STEPS = 161
GSC_STEP, LN_STEP, MOST_STEPS = 0.02, 0.05, 2401
"""Decades between two critical GSCs that are tried, ln between two κ, as long as these are not too many."""
FLAT = 1e-3
"""A difference of ln likelihood that tells nothing."""
EXPLODING = 1e-6
"""ln χ from which 16/ln χ is a depth that somebody might try."""
SHARED_PARAMETERS = 2
SIGNIFICANT = 0.05
ALIKE = 0.01
"""Nats a trial by which two rules may differ and still be said to do about as well."""


@dataclasses.dataclass(frozen=True)
class DepthRules:
    """`table` has RULE_COLUMNS, a row per optimizer, conditions and rule; `held_out_log_loss` is in nats a trial.

    Rules: OWN (no constant), ONE_DEPTH, SCALED (constant κ), YANG (nothing fitted), CRITICAL (constant log10 GSC).
    `p_against_own` is the likelihood ratio test of the rule against a D50 for every cell; where it excludes the rule,
    a constant that is told has no interval, for the cells then differ by more than one constant leaves to chance.
    `verdicts` says per training (as in adam epochs=5) which rule predicts best.
    """

    table: pd.DataFrame
    verdicts: dict[str, str]
    note: str = ""


@dataclasses.dataclass(frozen=True)
class _Cell:
    """One network and dilution: depths, trials and failures [depths], and what rules know of it."""

    architecture: str
    dilution: float
    depths: np.ndarray
    trials: np.ndarray
    failures: np.ndarray
    ln_growth: float
    gsc_line: tuple[float, float]


def compare_depth_rules(frames: StudyFrames, failure_error: float | None = None) -> DepthRules:
    """Fit every rule per optimizer and conditions and score it on architectures that it was not fitted to.

    With one architecture alone, its dilution levels are left out in turn.
    """
    outcomes = choose_outcomes(frames, failure_error)
    if outcomes.table.empty:
        return DepthRules(pd.DataFrame(columns=RULE_COLUMNS), {}, outcomes.note)
    rates = estimate_cell_rates(frames)
    rows, verdicts = [], {}
    for (optimizer, conditions), chosen in outcomes.table.groupby(["optimizer", "conditions"], sort=True):
        training = f"{optimizer} {conditions}".strip()
        cells = _list_cells(chosen, rates)
        problem = _explain_unfit(cells)
        if problem:
            verdicts[training] = f"Rules cannot be compared for {training}: {problem}."
            continue
        fits = [_fit_own(cells), *(_fit_rule(rule, cells) for rule in RULES)]
        table = _complete(pd.DataFrame(fits), cells).assign(optimizer=optimizer, conditions=conditions)
        rows.append(table[RULE_COLUMNS])
        verdicts[training] = _judge(training, table)
    table = pd.concat(rows, ignore_index=True) if rows else pd.DataFrame(columns=RULE_COLUMNS)
    return DepthRules(table, verdicts, "" if rows else " ".join(verdicts.values()))


def _list_cells(chosen: pd.DataFrame, rates: dict[tuple, Any]) -> list[_Cell]:
    """Return the cells whose explosion rate and GSC are known."""
    cells = []
    for (network, optimizer, dilution), group in chosen.groupby(["network", "optimizer", "dilution"], sort=True):
        rate, line = rates.get((network, optimizer, dilution)), fit_gsc_line(group)
        if rate is None or rate.value is None or line is None:
            continue
        counts = group.groupby("depth")["failed"].agg(["size", "sum"])
        sizes, failures = counts["size"].to_numpy(dtype=float), counts["sum"].to_numpy(dtype=float)
        depths = counts.index.to_numpy(dtype=float)
        architecture = str(group["architecture"].iloc[0])
        cells.append(_Cell(architecture, dilution, depths, sizes, failures, 2 * math.log(rate.value), line))
    return cells


def _explain_unfit(cells: list[_Cell]) -> str:
    if len(_group_cells(cells)) < 2:
        return "it takes two networks or dilution levels that were measured at two depths or more"
    failed, trials = (
        int(sum(counts)) for counts in zip(*((c.failures.sum(), c.trials.sum()) for c in cells), strict=True)
    )
    if failed == 0:
        return f"none of {trials} trainings of the networks to compare failed"
    return f"all {trials} trainings of the networks to compare failed" if failed == trials else ""


def _place_one_depth(cell: _Cell, constants: np.ndarray) -> np.ndarray:
    return constants


def _place_by_growth(cell: _Cell, constants: np.ndarray) -> np.ndarray:
    growth = max(cell.ln_growth, 1e-12)
    return np.minimum(constants - math.log(growth), math.log(OUT_OF_REACH))


def _place_by_gsc(cell: _Cell, constants: np.ndarray) -> np.ndarray:
    intercept, slope = cell.gsc_line
    depths = (constants - intercept) / slope if slope > 1e-12 else np.full(len(constants), OUT_OF_REACH)
    return np.log(np.clip(depths, 1.0, OUT_OF_REACH))


def _grid_of_depths(cells: list[_Cell]) -> np.ndarray:
    depths = np.concatenate([cell.depths for cell in cells])
    return np.linspace(math.log(depths.min() / 4), math.log(depths.max() * 4), STEPS)


def _grid_of_factors(cells: list[_Cell]) -> np.ndarray:
    """Return ln κ, from where κ/ln χ is below all depths to where it is beyond them, of whatever explodes."""
    reached = [math.log(cell.ln_growth) + np.log(cell.depths) for cell in cells if cell.ln_growth > EXPLODING]
    known = np.concatenate([*reached, [math.log(TRAINABLE_SQUARED_GROWTH)]])
    return _spread_evenly(known.min() - math.log(4), known.max() + math.log(4), LN_STEP)


def _grid_of_gsc(cells: list[_Cell]) -> np.ndarray:
    reached = np.concatenate([cell.gsc_line[0] + cell.gsc_line[1] * cell.depths for cell in cells])
    return _spread_evenly(min(reached.min(), 0.0) - 0.5, reached.max() + abs(reached.max()) / 2 + 0.5, GSC_STEP)


def _spread_evenly(low: float, high: float, step: float) -> np.ndarray:
    return np.linspace(low, high, int(np.clip((high - low) / step, STEPS, MOST_STEPS)))


@dataclasses.dataclass(frozen=True)
class _Rule:
    """`place` gives ln D* [steps] of a cell for the constants of `grid`; `write` turns those into what is reported."""

    name: str
    grid: Callable[[list[_Cell]], np.ndarray]
    place: Callable[[_Cell, np.ndarray], np.ndarray]
    write: Callable[[float], float]
    unit: str


RULES = (
    _Rule(ONE_DEPTH, _grid_of_depths, _place_one_depth, math.exp, "layers"),
    _Rule(SCALED, _grid_of_factors, _place_by_growth, math.exp, "κ"),
    _Rule(YANG, lambda cells: np.array([math.log(TRAINABLE_SQUARED_GROWTH)]), _place_by_growth, math.exp, "κ"),
    _Rule(CRITICAL, _grid_of_gsc, _place_by_gsc, float, "log10 GSC"),
)


def _fit_own(cells: list[_Cell]) -> dict[str, Any]:
    """Fit a D50 of its own to every cell, with σ and λ shared."""
    total = penalty(SPREADS, LAPSES)
    for cell in cells:
        grid = _grid_of_depths([cell])
        total = total + _likelihoods(cell, grid).max(axis=0)
    return {"rule": OWN, "unit": "", "parameters": len(cells) + SHARED_PARAMETERS, "log_likelihood": float(total.max())}


def _fit_rule(rule: _Rule, cells: list[_Cell]) -> dict[str, Any]:
    constants = rule.grid(cells)
    groups = _group_cells(cells)
    parts = {
        name: np.sum([_likelihoods(cell, rule.place(cell, constants)) for cell in group], axis=0)
        for name, group in groups
    }
    total = np.sum(list(parts.values()), axis=0) + penalty(SPREADS, LAPSES)
    profile = total.max(axis=(1, 2))
    best, fitted = int(profile.argmax()), len(constants) > 1
    low, high = find_interval(constants, profile, stats.chi2.ppf(0.95, 1) / 2) if fitted else (None, None)
    # Where an end is as good as any, the rule puts D* out of all cells' reach, and nothing tells how far.
    is_told = not fitted or max(profile[0], profile[-1]) < profile[best] - FLAT
    open_side = "the interval of the constant is open" if fitted and (low is None or high is None) else ""
    return {
        "rule": rule.name,
        "constant": rule.write(constants[best]) if is_told else math.nan,
        "constant_low": math.nan if low is None else rule.write(low),
        "constant_high": math.nan if high is None else rule.write(high),
        "unit": rule.unit,
        "parameters": SHARED_PARAMETERS + fitted,
        "log_likelihood": float(profile.max()),
        "held_out_log_loss": _score_held_out(parts, total) / sum(cell.trials.sum() for cell in cells),
        "note": open_side if is_told else _explain_untold(low, high),
    }


def _explain_untold(low: float | None, high: float | None) -> str:
    return "nothing tells the constant" if low is None and high is None else "only a bound of the constant is told"


def _group_cells(cells: list[_Cell]) -> list[tuple[Any, list[_Cell]]]:
    """Return what is left out together: architectures, or dilution levels where there is one architecture."""
    several = len({cell.architecture for cell in cells}) > 1
    keys = [cell.architecture if several else cell.dilution for cell in cells]
    return [(key, [cell for cell, own in zip(cells, keys, strict=True) if own == key]) for key in dict.fromkeys(keys)]


def _score_held_out(parts: dict[Any, np.ndarray], total: np.ndarray) -> float:
    """Return minus ln of the probability of each part, averaged over all curves as likely as the others make them."""
    # The best curve alone would be any of many where the others say nothing of the constant.
    return -sum(float(special.logsumexp(total) - special.logsumexp(total - part)) for part in parts.values())


def _likelihoods(cell: _Cell, ln_d50: np.ndarray) -> np.ndarray:
    """Return ln likelihood [steps, σ, λ] of a cell's outcomes."""
    ln_failing, ln_succeeding = log_probabilities(np.log(cell.depths) - ln_d50[:, None])
    return ln_failing @ cell.failures + ln_succeeding @ (cell.trials - cell.failures)


def _complete(table: pd.DataFrame, cells: list[_Cell]) -> pd.DataFrame:
    own = table.iloc[0]
    statistic = 2 * (own["log_likelihood"] - table["log_likelihood"])
    freedom = own["parameters"] - table["parameters"]
    p_values = stats.chi2.sf(statistic.clip(lower=0), freedom.where(freedom > 0, math.nan))
    bounds = ["constant_low", "constant_high"]
    is_excluded = (p_values < SIGNIFICANT) & table["constant"].notna() & table[bounds].notna().any(axis=1)
    table.loc[is_excluded, bounds] = math.nan
    table.loc[is_excluded, "note"] = "no interval: cells differ by more than one constant leaves to chance"
    return table.assign(
        aic=2 * table["parameters"] - 2 * table["log_likelihood"],
        p_against_own=p_values,
        cells=len(cells),
        trials=int(sum(cell.trials.sum() for cell in cells)),
        note=table["note"].fillna("knows every network, and so cannot be scored on one left out"),
    )


def _judge(training: str, table: pd.DataFrame) -> str:
    scored = table.dropna(subset="held_out_log_loss").sort_values("held_out_log_loss")
    best, second = scored.iloc[0], scored.iloc[1]
    constant = {
        ONE_DEPTH: f" (depth {best['constant']:.3g})",
        SCALED: f" (κ = {best['constant']:.3g})",
        CRITICAL: f" (10^{best['constant']:.2f})",
    }.get(best["rule"], "")
    constant = "" if math.isnan(best["constant"]) else constant
    alike = [
        row.rule for row in scored.iloc[1:].itertuples() if row.held_out_log_loss < best["held_out_log_loss"] + ALIKE
    ]
    others = f"the next is {second['rule']} with {second['held_out_log_loss']:.3f}"
    if alike:
        others = f"about as well by {' and by '.join(alike)}"
    preferred = str(table.loc[table["aic"].idxmin(), "rule"])
    if preferred != best["rule"]:
        others += f"; AIC prefers {'a D50 of its own for each' if preferred == OWN else preferred}"
    return (
        f"With {training}, where training fails is told best by {best['rule']}{constant}, with a log loss of "
        f"{best['held_out_log_loss']:.3f} nats a trial on what was left out; {others}. Against a D50 of its own for "
        f"each of {best['cells']} cells: {write_p(best['p_against_own'])}."
    )
