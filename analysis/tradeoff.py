"""Outcomes → logit P(fail) = α_optimizer + β₁ ln GSC + β₂ ln D + β₃ pseudo-linearity; does GSC suffice?

GSC (input → logits) and pseudo-linearity are of the untrained network. Fits are Firth's (`firth_logistic`), finite
where GSC separates failures from successes. Trials are taken as independent given the covariates; but those of one
network share what it has of its own: intervals between networks (jackknife: each is left out in turn) are beside.
Where one network was trained under m conditions (epochs, precision), α is of each training (`adam epochs=5`), a network
is left out with all of them, and its m trials of one seed and optimizer, which begin alike, count as one.
"""

import dataclasses
import math
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from analysis.best_learning_rates import choose_outcomes
from analysis.estimates import Estimate, write_p
from analysis.firth_logistic import (
    Part,
    Weighting,
    critical_value,
    fit_firth,
    independent_columns,
    likelihood_ratio_p,
    predict_failure,
    profile_interval,
)
from analysis.tidy_frames import StudyFrames

GSC, DEPTH, LINEARITY = "ln GSC", "ln D", "pseudo-linearity"
COVARIATES = (GSC, DEPTH, LINEARITY)
MODELS = {
    "optimizer alone": (),
    "depth": (DEPTH,),
    "GSC": (GSC,),
    "GSC and depth": (GSC, DEPTH),
    "GSC, depth and pseudo-linearity": COVARIATES,
}
COEFFICIENT_COLUMNS = [
    "term", "coefficient", "low", "high", "p_value", "low_between_networks", "high_between_networks", "note",
]  # fmt: skip
SCORE_COLUMNS = ["model", "held_out", "trials", "log_loss", "brier", "note"]
CRITICAL_COLUMNS = [
    "network", "optimizer", "architecture", "training", "trials", "failed", "critical_log10_gsc", "low", "high", "note",
]  # fmt: skip
EVERY_NETWORK = "all"
SIGNIFICANT = 0.05
FEWEST_NETWORKS = 3


@dataclasses.dataclass(frozen=True)
class Tradeoff:
    """What stops training.

    `coefficients` has COEFFICIENT_COLUMNS: Firth's penalised likelihood, its profile intervals, and jackknife
    intervals over networks, which hold if networks differ in what the model does not know.
    `scores` has SCORE_COLUMNS: per model of MODELS and architecture left out (EVERY_NETWORK: the mean over all trials).
    `critical` has CRITICAL_COLUMNS: the GSC at which half fail, per network and optimizer.
    `depth_adds` and `shared` say in a sentence whether GSC suffices and whether the critical GSC is shared; their p
    values are beside. `critical_gsc` is log10 of the shared one per training. `note` says why there is nothing.
    """

    coefficients: pd.DataFrame
    scores: pd.DataFrame
    critical: pd.DataFrame
    depth_adds: str
    depth_p_value: float | None
    shared: str
    shared_p_value: float | None
    critical_gsc: dict[str, Estimate]
    failure_error: float | None
    note: str = ""


def fit_tradeoff(frames: StudyFrames, failure_error: float | None = None) -> Tradeoff:
    """Fit, test and score what tells failing trainings from others."""
    outcomes = choose_outcomes(frames, failure_error)
    trials = add_covariates(outcomes.table)
    problem = outcomes.note if outcomes.table.empty else _explain_unfit(trials)
    if problem:
        return _say_nothing(problem, outcomes.failure_error)
    depth_adds, depth_p_value = _ask_whether_depth_adds(trials)
    shared, shared_p_value = _ask_whether_shared(trials)
    return Tradeoff(
        coefficients=tabulate_coefficients(trials),
        scores=score_models(trials),
        critical=tabulate_critical(trials),
        depth_adds=depth_adds,
        depth_p_value=depth_p_value,
        shared=shared,
        shared_p_value=shared_p_value,
        critical_gsc=find_critical_gsc(trials),
        failure_error=outcomes.failure_error,
        note=outcomes.note,
    )


def add_covariates(outcomes: pd.DataFrame) -> pd.DataFrame:
    """Return the outcomes that have a GSC, with COVARIATES, `training` (adam epochs=5) and `y`, 1 for a failure."""
    trials = outcomes.assign(
        training=(outcomes["optimizer"] + " " + outcomes["conditions"]).str.strip(),
        **{
            GSC: outcomes["log10_gsc"].astype(float) * math.log(10),
            DEPTH: np.log(outcomes["depth"].astype(float)),
            LINEARITY: outcomes["pseudo_linearity"].astype(float),
            "y": outcomes["failed"].astype(float),
        },
    )
    return trials[np.isfinite(trials[[GSC, DEPTH]]).all(axis=1)].reset_index(drop=True)


def _explain_unfit(trials: pd.DataFrame) -> str:
    if trials.empty:
        return "There is no trade-off to fit: no trial that ended has a GSC before training."
    failed = int(trials["y"].sum())
    if failed in (0, len(trials)):
        return f"There is no trade-off to fit: {failed} of {len(trials)} trainings failed, and it takes both kinds."
    if trials[GSC].max() - trials[GSC].min() < 1e-9:
        return "There is no trade-off to fit: all trainings started with the same GSC."
    return ""


def _say_nothing(note: str, failure_error: float | None) -> Tradeoff:
    return Tradeoff(
        coefficients=pd.DataFrame(columns=COEFFICIENT_COLUMNS),
        scores=pd.DataFrame(columns=SCORE_COLUMNS),
        critical=pd.DataFrame(columns=CRITICAL_COLUMNS),
        depth_adds=note,
        depth_p_value=None,
        shared=note,
        shared_p_value=None,
        critical_gsc={},
        failure_error=failure_error,
        note=note,
    )


def make_design(trials: pd.DataFrame, covariates: tuple[str, ...]) -> tuple[np.ndarray, list[str]]:
    """Return the design [trials, columns] and its terms: an intercept per training, and covariates, centred.

    Covariates without a value for some trial are left out. Centring changes intercepts alone.
    """
    trainings = sorted(trials["training"].unique())
    columns = [(trials["training"] == training).to_numpy(dtype=float) for training in trainings]
    terms = [f"α {training}" for training in trainings]
    for covariate in covariates:
        if np.isfinite(trials[covariate]).all():
            columns.append((trials[covariate] - trials[covariate].mean()).to_numpy(dtype=float))
            terms.append(covariate)
    X = np.stack(columns, axis=1)
    kept = independent_columns(X)
    return X[:, kept], [terms[column] for column in kept]


def weigh_trials(trials: pd.DataFrame, X: np.ndarray) -> Weighting:
    """Let the trials of one network, seed and optimizer count as one; each of the conditions is a part of its own."""
    weights, parts = _share_weight(trials), []
    if trials["conditions"].nunique() < 2:
        return Weighting(weights)
    for places in trials.groupby("conditions").indices.values():
        share = weights[places].sum() / _share_weight(trials.iloc[places]).sum()
        parts.append(Part(places, independent_columns(X[places]), float(share)))
    return Weighting(weights, tuple(parts))


def _share_weight(trials: pd.DataFrame) -> np.ndarray:
    """Return 1/m [trials] for the m trials of one network, seed and optimizer."""
    alike = trials.groupby(["architecture", "dilution", "depth", "seed", "optimizer"])["y"]
    return (1 / alike.transform("size")).to_numpy(dtype=float)


def tabulate_coefficients(trials: pd.DataFrame) -> pd.DataFrame:
    """Fit the whole model to outcomes with covariates; returns COEFFICIENT_COLUMNS, a row per term."""
    X, terms = make_design(trials, COVARIATES)
    y, weighting = trials["y"].to_numpy(), weigh_trials(trials, X)
    fit = fit_firth(X, y, weighting)
    between = _jackknife(X, trials)
    rows: list[dict[str, Any]] = []
    for column, term in enumerate(terms):
        low, high = profile_interval(X, y, column, weighting)
        estimate = Estimate(fit.coefficients[column], low, high)
        rows.append(
            {"term": term, "coefficient": fit.coefficients[column], "low": _cell(estimate.low)}
            | {"high": _cell(estimate.high), "p_value": likelihood_ratio_p(X, y, [column], weighting)}
            | {"low_between_networks": between[0][column], "high_between_networks": between[1][column]}
            | {"note": "at the mean of the other covariates" if term.startswith("α") else ""}
        )
    for covariate in COVARIATES:
        if covariate not in terms:
            known = np.isfinite(trials[covariate]).all()
            reason = "does not vary beside the others" if known else "is not known of every trial"
            rows.append({"term": covariate, "note": f"{covariate} {reason}, and is left out"})
    return pd.DataFrame(rows, columns=COEFFICIENT_COLUMNS)


def _jackknife(X: np.ndarray, trials: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return bounds [columns] of a t interval over fits without one architecture each; nan with fewer than three.

    An intercept of a training that one architecture alone was given has none either.
    """
    y, architectures = trials["y"].to_numpy(), trials["architecture"].to_numpy()
    names = np.unique(architectures)
    center, count = fit_firth(X, y, weigh_trials(trials, X)).coefficients, len(names)
    unknown = np.full(len(center), math.nan)
    if count < FEWEST_NETWORKS:
        return unknown, unknown
    fits = np.full((count, len(center)), math.nan)
    for fit, name in zip(fits, names, strict=True):
        kept = architectures != name
        present = (X[kept] != 0).any(axis=0)
        left = X[kept][:, present]
        if len(independent_columns(left)) < left.shape[1]:
            return unknown, unknown
        fit[present] = fit_firth(left, y[kept], weigh_trials(trials[kept], left)).coefficients
    spread = fits - fits.mean(axis=0)
    half = stats.t.ppf(0.975, count - 1) * np.sqrt((count - 1) / count * (spread**2).sum(axis=0))
    return center - half, center + half


def score_models(trials: pd.DataFrame) -> pd.DataFrame:
    """Predict every architecture from all others; returns SCORE_COLUMNS, log loss in nats a trial."""
    networks, weights = sorted(trials["architecture"].unique()), _share_weight(trials)
    if len(networks) < 2:
        note = "one network alone: none can be left out"
        return pd.DataFrame([{"model": model, "held_out": EVERY_NETWORK, "note": note} for model in MODELS])[
            ["model", "held_out", "note"]
        ].reindex(columns=SCORE_COLUMNS)
    rows = []
    for model, names in MODELS.items():
        # What is not known of every trial could not be asked of the network left out.
        covariates = tuple(name for name in names if np.isfinite(trials[name]).all())
        predicted = np.empty(len(trials))
        for network in networks:
            outside = (trials["architecture"] == network).to_numpy()
            predicted[outside] = _predict(trials[~outside], trials[outside], covariates)
        parts = [(network, (trials["architecture"] == network).to_numpy()) for network in networks]
        parts.append((EVERY_NETWORK, np.ones(len(trials), dtype=bool)))
        for name, chosen in parts:
            log_loss, brier = _score(predicted[chosen], trials["y"].to_numpy()[chosen], weights[chosen])
            rows.append((model, name, int(chosen.sum()), log_loss, brier, ""))
    return pd.DataFrame(rows, columns=SCORE_COLUMNS)


def _predict(known: pd.DataFrame, asked: pd.DataFrame, covariates: tuple[str, ...]) -> np.ndarray:
    """Return P(fail) of trials by a fit to others; a training that was never seen has the mean intercept."""
    X, terms = make_design(known, covariates)
    fit = fit_firth(X, known["y"].to_numpy(), weigh_trials(known, X))
    beta = dict(zip(terms, fit.coefficients, strict=True))
    intercepts = {term: value for term, value in beta.items() if term.startswith("α")}
    usual = float(np.mean(list(intercepts.values())))
    linear = np.array([intercepts.get(f"α {training}", usual) for training in asked["training"]])
    for covariate in covariates:
        if covariate in beta:
            linear = linear + beta[covariate] * (asked[covariate] - known[covariate].mean()).to_numpy(dtype=float)
    return predict_failure(linear[:, None], np.ones(1))


def _score(predicted: np.ndarray, y: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    p = np.clip(predicted, 1e-12, 1 - 1e-12)
    losses, squares = -(y * np.log(p) + (1 - y) * np.log1p(-p)), (p - y) ** 2
    return float(np.average(losses, weights=weights)), float(np.average(squares, weights=weights))


def tabulate_critical(trials: pd.DataFrame) -> pd.DataFrame:
    """Return CRITICAL_COLUMNS: log10 of the GSC at which half of the trainings fail, per network and optimizer."""
    rows = []
    for (network, optimizer), group in trials.groupby(["network", "optimizer"], sort=True):
        estimate = _critical_of(group)
        rows.append(
            {"network": network, "optimizer": optimizer}
            | {name: group[name].iloc[0] for name in ("architecture", "training")}
            | {"trials": len(group), "failed": int(group["y"].sum())}
            | {"critical_log10_gsc": _cell(estimate.value), "low": _cell(estimate.low), "high": _cell(estimate.high)}
            | {"note": estimate.note}
        )
    return pd.DataFrame(rows, columns=CRITICAL_COLUMNS)


def find_critical_gsc(trials: pd.DataFrame) -> dict[str, Estimate]:
    """Return log10 of the critical GSC per training; optimizers under the same conditions share the rise β₁."""
    found: dict[str, Estimate] = {}
    for _, alike in trials.groupby("conditions"):
        found |= {training: _critical_of(alike, training) for training in alike["training"].unique()}
    return dict(sorted(found.items()))


def _critical_of(trials: pd.DataFrame, training: str | None = None) -> Estimate:
    own = trials if training is None else trials[trials["training"] == training]
    failed = int(own["y"].sum())
    least, most = (float(end) for end in own["log10_gsc"].astype(float).agg(["min", "max"]))
    if failed == 0:
        return Estimate(note=f"0 of {len(own)} trainings failed at a GSC of up to 10^{most:.2f}")
    if failed == len(own):
        return Estimate(note=f"{failed} of {len(own)} trainings failed at a GSC of 10^{least:.2f} and more")
    X, terms = make_design(trials, (GSC,))
    if GSC not in terms:
        return Estimate(note="all trainings started with the same GSC")
    intercept = terms.index(f"α {training}") if training else 0
    place = critical_value(X, trials["y"].to_numpy(), terms.index(GSC), intercept, weigh_trials(trials, X))
    if place[0] is None:
        return Estimate(note="failures do not become more frequent with GSC")
    center = float(trials[GSC].mean())
    value, low, high = (None if part is None else (part + center) / math.log(10) for part in place)
    assert value is not None
    if value > most:
        low = None if low is None else min(low, most)
        return Estimate(None, low, None, f"the critical GSC lies beyond the greatest that was measured, 10^{most:.2f}")
    if value < least:
        high = None if high is None else max(high, least)
        return Estimate(None, None, high, f"the critical GSC lies below the least that was measured, 10^{least:.2f}")
    return Estimate(value, low, high, "the interval is open" if low is None or high is None else "")


def _ask_whether_depth_adds(trials: pd.DataFrame) -> tuple[str, float | None]:
    X, terms = make_design(trials, COVARIATES)
    if DEPTH not in terms or GSC not in terms:
        return "Whether GSC suffices cannot be told: depth and GSC do not vary apart from each other.", None
    y, weighting, column = trials["y"].to_numpy(), weigh_trials(trials, X), terms.index(DEPTH)
    p_value = likelihood_ratio_p(X, y, [column], weighting)
    slope = float(fit_firth(X, y, weighting).coefficients[column])
    if p_value >= SIGNIFICANT:
        low, high = profile_interval(X, y, column, weighting)
        interval = Estimate(slope, low, high).write(2)
        return f"Given GSC, depth is not shown to add anything (β₂ = {interval}, {write_p(p_value)}).", p_value
    more = "more" if slope > 0 else "less"
    low, high = (float(bounds[column]) for bounds in _jackknife(X, trials))
    doubt = ""
    if math.isnan(low):
        doubt = "; too few networks to know whether it holds for others"
    elif low <= 0 <= high:
        doubt = "; networks differ too much to say that it holds for others"
    return f"GSC does not suffice: at equal GSC deeper networks fail {more} often ({write_p(p_value)}{doubt}).", p_value


def _ask_whether_shared(trials: pd.DataFrame) -> tuple[str, float | None]:
    """Test whether architectures have intercepts of their own beside GSC."""
    X, terms = make_design(trials, (GSC,))
    networks = sorted(trials["architecture"].unique())
    own = [(trials["architecture"] == network).to_numpy(dtype=float) for network in networks[1:]]
    whole = np.column_stack([X, *own]) if own else X
    kept = independent_columns(whole)
    whole = whole[:, kept]
    added = [place for place, column in enumerate(kept) if column >= len(terms)]
    if not added:
        return "Whether the critical GSC is shared cannot be told: there is one network alone.", None
    p_value = likelihood_ratio_p(whole, trials["y"].to_numpy(), added, weigh_trials(trials, whole))
    if p_value >= SIGNIFICANT:
        return f"One critical GSC for all {len(networks)} networks is not contradicted ({write_p(p_value)}).", p_value
    return f"The critical GSC is not the same in all {len(networks)} networks ({write_p(p_value)}).", p_value


def _cell(number: float | None) -> float:
    return math.nan if number is None else number
