"""Outcomes of training at several depths → D50, the depth at which half of the trainings fail, with its interval.

`failure_curve` has the model. The interval is that of the penalised profile likelihood. Where several learning rates
were tried, the choice among them is uncertain, too: the likelihood is averaged over choices made on bootstrap samples
of the other seeds. 16/ln χ: Yang et al. 2019, "A mean field theory of batch normalization".
"""

import dataclasses
import math
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from analysis.best_learning_rates import CELL, Outcomes, choose_outcomes, describe_runs
from analysis.estimates import Estimate, write_list, write_short
from analysis.explosion_rates import estimate_rate, measure_growth
from analysis.failure_curve import find_interval, fit_curve, likelihood_drop, penalised_likelihoods
from analysis.tidy_frames import UNTRAINED, StudyFrames
from study.mean_field import predicted_trainable_depth
from study.rate_choice import DECIMALS, find_comparable

DEPTH_COLUMNS = [
    *CELL, "architecture", "depths", "trials", "failed", "d50", "d50_low", "d50_high", "written", "spread", "lapse",
    "rule_depth", "rule_depth_low", "rule_depth_high", "critical_log10_gsc", "critical_log10_gsc_low",
    "critical_log10_gsc_high", "note",
]  # fmt: skip
RESAMPLING_SEED = 20_260
CLEARLY = 2.0
"""A difference of ln likelihoods that is not chance."""


@dataclasses.dataclass(frozen=True)
class DepthFit:
    """P(fail) = λ + (1 − 2λ) Φ((ln D − ln d50)/spread); `lapse` is λ. Missing where nothing tells."""

    d50: Estimate
    spread: float | None = None
    lapse: float | None = None


@dataclasses.dataclass(frozen=True)
class TrainableDepths:
    """`table` has DEPTH_COLUMNS, a row per network, optimizer and dilution.

    `written` is D50 for people, with its interval or as an open bound ("≥ 84"). `rule_depth` is 16/ln χ of the measured
    explosion rate before training, inf where nothing explodes; `critical_log10_gsc` the GSC that untrained networks of
    depth D50 have, its bounds those of D50. What is missing is explained in `note`.
    """

    table: pd.DataFrame
    failure_error: float | None
    note: str = ""


def estimate_trainable_depths(
    frames: StudyFrames, failure_error: float | None = None, replicates: int = 200
) -> TrainableDepths:
    """Estimate D50 per network, optimizer and dilution, the learning rate being chosen inside the bootstrap."""
    outcomes = choose_outcomes(frames, failure_error)
    if outcomes.table.empty:
        return TrainableDepths(pd.DataFrame(columns=DEPTH_COLUMNS), None, outcomes.note)
    runs = describe_runs(frames)
    runs = runs.assign(failed=runs["diverged"] | (runs["error"] > outcomes.failure_error))
    rates = estimate_cell_rates(frames)
    by_cell = dict(list(runs.groupby(CELL)))
    rows = []
    for key, chosen in outcomes.table.groupby(CELL, sort=True):
        generator = np.random.default_rng(RESAMPLING_SEED)
        fit = fit_cell(chosen, by_cell[key], replicates, generator)
        rows.append(dict(zip(CELL, key, strict=True)) | _make_row(chosen, fit, rates.get(key), outcomes))
    return TrainableDepths(pd.DataFrame(rows, columns=DEPTH_COLUMNS), outcomes.failure_error, outcomes.note)


def fit_trainable_depth(depths: np.ndarray, failed: np.ndarray) -> DepthFit:
    """Fit D50 to single outcomes: depths [trials] and whether each failed [trials]; nan in either leaves it out."""
    depths, failed = np.asarray(depths, dtype=float), np.asarray(failed, dtype=float)
    known = np.isfinite(depths) & np.isfinite(failed) & (depths > 0)
    if not known.any():
        return DepthFit(Estimate(note="no training ended, so that nothing is known of D50"))
    levels, places = np.unique(depths[known], return_inverse=True)
    trials = np.bincount(places).astype(float)
    return fit_counts(levels, trials, np.bincount(places, weights=failed[known])[None])


def fit_counts(depths: np.ndarray, trials: np.ndarray, failures: np.ndarray) -> DepthFit:
    """Fit D50 to counts: ascending depths [depths], trials [depths] and failures [replicates, depths].

    Replicates are the counts that result from different choices of the learning rate, each as credible as the others:
    the interval is of the likelihood averaged over them, the estimate of their mean.
    """
    total, mean = int(trials.sum()), failures.mean(axis=0)
    distinct, weights = np.unique(failures, axis=0, return_counts=True)
    ln_d50, likelihoods = penalised_likelihoods(tuple(depths.tolist()), trials, distinct)
    profiles = likelihoods.max(axis=(2, 3))
    likelihood = special.logsumexp(profiles, axis=0, b=weights[:, None] / weights.sum())
    low, high = (
        None if bound is None else math.exp(bound)
        for bound in find_interval(ln_d50, likelihood, likelihood_drop(total))
    )
    by_choice = " on average over choices of the learning rate" if np.ptp(failures.sum(axis=1)) else ""
    counts = f"{write_short(mean.sum())} of {total} trainings failed{by_choice}"
    if mean.sum() < 1e-9:
        # A bound beyond all depths that were tried would rest on the shape of the curve alone.
        low = None if low is None else min(low, float(depths[-1]))
        return DepthFit(_explain_bound(Estimate(None, low, None, f"{counts} up to depth {depths[-1]:g}")))
    if total - mean.sum() < 1e-9:
        high = None if high is None else max(high, float(depths[0]))
        return DepthFit(_explain_bound(Estimate(None, None, high, f"{counts} from depth {depths[0]:g} on")))
    if len(depths) == 1:
        return DepthFit(Estimate(note=f"{counts} at depth {depths[0]:g}, and D50 takes a second depth"))
    if _ignores_depth(trials, mean, float(likelihood.max())):
        return DepthFit(Estimate(note=f"{counts}, but not the more the deeper they were, so that there is no D50"))
    curve = fit_curve(depths, trials, mean)
    d50 = math.exp(curve.ln_d50)
    if not depths[0] <= d50 <= depths[-1]:
        where = "deeper" if d50 > depths[-1] else "shallower"
        bound = Estimate(None, low, high, f"{counts}: the estimate is {where} than the depths tried, and is not given")
        return DepthFit(_explain_bound(bound), curve.spread, curve.lapse)
    # The grid is coarser than the interval of thousands of trials.
    low, high = (None if low is None else min(low, d50)), (None if high is None else max(high, d50))
    return DepthFit(Estimate(d50, low, high, _explain_interval(low, high, counts)), curve.spread, curve.lapse)


def _explain_interval(low: float | None, high: float | None, counts: str) -> str:
    if low is None and high is None:
        return f"{counts}, which is too little for an interval"
    return (
        "" if low is not None and high is not None else f"the interval is open {'above' if high is None else 'below'}"
    )


def _explain_bound(bound: Estimate) -> Estimate:
    too_few = bound.low is None and bound.high is None
    return dataclasses.replace(bound, note=f"{bound.note}, which are too few to bound D50") if too_few else bound


def _ignores_depth(trials: np.ndarray, failures: np.ndarray, likelihood: float) -> bool:
    """Whether one probability for all depths is clearly more likely than any curve that rises."""
    share = failures.sum() / trials.sum()
    flat = failures.sum() * math.log(share) + (trials - failures).sum() * math.log1p(-share)
    return bool(flat > likelihood + CLEARLY)


def fit_cell(chosen: pd.DataFrame, runs: pd.DataFrame, replicates: int, generator: np.random.Generator) -> DepthFit:
    """Fit D50 of one cell from its outcomes, and all its runs to choose learning rates from."""
    if runs["learning_rate"].nunique() == 1 or runs["seed"].nunique() == 1:
        return fit_trainable_depth(chosen["depth"].to_numpy(), chosen["failed"].to_numpy(dtype=float))
    depths, trials, failures = [], [], []
    for depth, judged in chosen.groupby("depth", sort=True):
        group = runs[runs["depth"] == depth]
        errors = group.pivot_table(index="learning_rate", columns="seed", values="error")
        failed = group.pivot_table(index="learning_rate", columns="seed", values="failed", aggfunc="max")
        as_chosen = judged.set_index("seed")["failed"].astype(float).reindex(errors.columns).to_numpy()
        depths.append(float(depth))
        trials.append(float(len(judged)))
        failures.append(
            resample_failures(errors.to_numpy(), failed.to_numpy(dtype=float), as_chosen, replicates, generator)
        )
    return fit_counts(np.array(depths), np.array(trials), np.stack(failures, axis=1))


def resample_failures(
    errors: np.ndarray, failed: np.ndarray, as_chosen: np.ndarray, replicates: int, generator: np.random.Generator
) -> np.ndarray:
    """Return failures [replicates] of one depth: each seed at the rate that a bootstrap of the others finds best.

    Rates are compared as in `choose_on_other_seeds`, and the seeds that it leaves out are left out here. Where a sample
    chooses a rate that a seed was not trained with, the choice of all the others stands.

    Args:
        errors: final training errors [learning rates, seeds], nan where there is no run.
        failed: 1 for a failure, likewise.
        as_chosen: 1 for a failure at the rate that all others find best [seeds], nan where a seed is left out.
        replicates: bootstrap samples.
        generator: source of randomness.
    """
    known = np.isfinite(errors)
    rates, compared = find_comparable(known)
    total = np.zeros(replicates)
    for seed in np.flatnonzero(np.isfinite(as_chosen)):
        if known.sum(axis=1).max() < 2:
            total += as_chosen[seed]  # at its own best rate: no two seeds have one in common
            continue
        others = np.flatnonzero(compared & (np.arange(len(compared)) != seed))
        others = others if len(others) else np.delete(np.arange(len(compared)), seed)
        drawn = others[generator.integers(len(others), size=(replicates, len(others)))]
        counts = known[:, drawn].sum(axis=2)
        mean = np.where(known, errors, 0.0)[:, drawn].sum(axis=2) / np.maximum(counts, 1)
        mean[~rates] = math.inf
        # Only where no seed has all candidates can one be missing from a sample, which then says nothing of it.
        choice = np.round(np.where(counts > 0, mean, math.inf), DECIMALS).argmin(axis=0)
        outcome = failed[choice, seed]
        total += np.where(np.isfinite(outcome), outcome, as_chosen[seed])
    return total


def estimate_cell_rates(frames: StudyFrames) -> dict[tuple, Estimate]:
    """Return the explosion rate before training of every cell (network, optimizer, dilution) that has one."""
    keys = [*UNTRAINED, "depth", "seed"]
    growth = measure_growth(frames)[[*keys, "layers", "ln_growth"]]
    cells = frames.trials[list(dict.fromkeys([*CELL, *keys]))].drop_duplicates().merge(growth, on=keys)
    by_seed = cells.groupby([*CELL, "seed"])[["ln_growth", "layers"]].sum()
    per_layer = (by_seed["ln_growth"] / by_seed["layers"]).groupby(CELL)
    return {key: estimate_rate(values.to_numpy()) for key, values in per_layer}


def predict_by_rule(rate: Estimate | None) -> dict[str, float]:
    """Return `rule_depth`, 16/ln χ, with the ends that the rate's interval becomes: inf where nothing explodes."""
    rates = (None, None, None) if rate is None else (rate.value, rate.high, rate.low)
    depths = [math.nan if value is None else predicted_trainable_depth(value) for value in rates]
    return dict(zip(("rule_depth", "rule_depth_low", "rule_depth_high"), depths, strict=True))


def _explain_rule(depth: float) -> str:
    if math.isnan(depth):
        return "no explosion rate was measured"
    return "not shown to explode, so that 16/ln χ sets no limit" if math.isinf(depth) else ""


def fit_gsc_line(chosen: pd.DataFrame) -> tuple[float, float] | None:
    """Return intercept and slope of initial log10 GSC over depth; None with fewer than two depths."""
    known = chosen[np.isfinite(chosen["log10_gsc"].astype(float))]
    if known["depth"].nunique() < 2:
        return None
    slope, intercept = np.polyfit(known["depth"].astype(float), known["log10_gsc"].astype(float), 1)
    return float(intercept), float(slope)


def _critical_gsc(chosen: pd.DataFrame, d50: Estimate) -> Estimate:
    line = fit_gsc_line(chosen)
    if line is None or (d50.value is None and d50.low is None and d50.high is None):
        return Estimate()
    value, low, high = (
        None if depth is None else line[0] + line[1] * depth for depth in (d50.value, d50.low, d50.high)
    )
    return Estimate(value, low, high) if line[1] >= 0 else Estimate(value, high, low)


def _make_row(chosen: pd.DataFrame, fit: DepthFit, rate: Estimate | None, outcomes: Outcomes) -> dict[str, Any]:
    rule = predict_by_rule(rate)
    notes = [note for note in (fit.d50.note, _explain_rule(rule["rule_depth"])) if note]
    if outcomes.note and not fit.d50.is_known:
        notes.append(outcomes.note[0].lower() + outcomes.note[1:].rstrip("."))
    return {
        "architecture": chosen["architecture"].iloc[0],
        "depths": write_list(sorted(chosen["depth"].unique())),
        "trials": len(chosen),
        "failed": int(chosen["failed"].sum()),
        **fit.d50.as_columns("d50"),
        "written": fit.d50.write(),
        "spread": math.nan if fit.spread is None else fit.spread,
        "lapse": math.nan if fit.lapse is None else fit.lapse,
        **rule,
        **_critical_gsc(chosen, fit.d50).as_columns("critical_log10_gsc"),
        "note": "; ".join(notes),
    }
