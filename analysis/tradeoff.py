"""Outcomes → logit P(fail) = α_optimizer + β₁ ln GSC + β₂ ln D + β₃ pseudo-linearity; does GSC suffice?

GSC (input → logits) and pseudo-linearity are of the untrained network. Fits are Firth's (`firth_logistic`), finite
where GSC separates failures from successes. Trials are taken as independent given the covariates; but those of one
network share what it has of its own: intervals between networks (jackknife: each is left out in turn) are beside.
Where networks were trained under several conditions (epochs, precision), α is of each training, and a network is left
out with all of them (`failure_design` says what its trials weigh).
"""

import dataclasses
import math
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from analysis.best_learning_rates import choose_outcomes
from analysis.critical_gsc import CRITICAL_COLUMNS, find_critical_gsc, tabulate_critical
from analysis.estimates import Estimate, write_p
from analysis.failure_design import (
    COVARIATES,
    DEPTH,
    GSC,
    LINEARITY,
    add_covariates,
    make_design,
    share_weight,
    weigh_trials,
)
from analysis.firth_logistic import (
    fit_firth,
    independent_columns,
    likelihood_ratio_p,
    predict_failure,
    profile_interval,
)
from analysis.tidy_frames import StudyFrames

MODELS = {
    "optimizer alone": (),
    "depth": (DEPTH,),
    "pseudo-linearity": (LINEARITY,),
    "depth and pseudo-linearity": (DEPTH, LINEARITY),
    "GSC": (GSC,),
    "GSC and depth": (GSC, DEPTH),
    "GSC, depth and pseudo-linearity": COVARIATES,
}
COEFFICIENT_COLUMNS = [
    "term", "coefficient", "low", "high", "p_value", "low_between_networks", "high_between_networks", "note",
]  # fmt: skip
SCORE_COLUMNS = ["model", "held_out", "trials", "log_loss", "brier", "note"]
EVERY_NETWORK = "all"
SIGNIFICANT = 0.05
FEWEST_NETWORKS = 3
UNTOLD = "these networks do not tell whether it holds for others"
"""Said where there is no interval between networks: there are too few, or one alone varies in something."""


@dataclasses.dataclass(frozen=True)
class Tradeoff:
    """What stops training.

    `coefficients` has COEFFICIENT_COLUMNS: Firth's penalised likelihood, its profile intervals, and jackknife
    intervals over networks, which hold if networks differ in what the model does not know.
    `scores` has SCORE_COLUMNS: per model of MODELS and architecture left out (EVERY_NETWORK: the mean over all trials).
    `critical` has CRITICAL_COLUMNS: the GSC at which half fail, per network and optimizer.
    `depth_adds` and `shared` say in a sentence whether GSC suffices and whether the critical GSC is shared; their p
    values are beside. `critical_gsc` is log10 of the shared one per training, without an interval where none is shared.
    `note` says why there is nothing, or what was left out.
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
    problem = (
        outcomes.note if outcomes.table.empty else _explain_unfit(trials, is_whole=len(trials) == len(outcomes.table))
    )
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
        critical_gsc=_find_shared(trials),
        failure_error=outcomes.failure_error,
        note=" ".join(filter(None, (outcomes.note, _count_left_out(outcomes.table)))),
    )


def _find_shared(trials: pd.DataFrame) -> dict[str, Estimate]:
    """Return the critical GSC of all networks together, without an interval under conditions where they share none."""
    found = find_critical_gsc(trials)
    note = "no interval: networks differ by more than one critical GSC leaves to chance"
    for _, alike in trials.groupby("conditions"):
        _, p_value = _ask_whether_shared(alike)
        if p_value is not None and p_value < SIGNIFICANT:
            trainings = [name for name in alike["training"].unique() if found[name].is_known]
            found |= {name: Estimate(found[name].value, note=note) for name in trainings}
    return found


def _count_left_out(outcomes: pd.DataFrame) -> str:
    """Say how many outcomes have no GSC, and how they ended: what is left out so is no random choice."""
    missing = outcomes[~np.isfinite(outcomes["log10_gsc"].astype(float))]
    if missing.empty:
        return ""
    return (
        f"Of {len(outcomes)} trainings {len(missing)} began without a finite GSC and are left out of the trade-off; "
        f"{int(missing['failed'].sum())} of them failed."
    )


def _explain_unfit(trials: pd.DataFrame, is_whole: bool) -> str:
    if trials.empty:
        return "There is no trade-off to fit: no trial that ended has a GSC before training."
    failed = int(trials["y"].sum())
    if failed in (0, len(trials)):
        which = "" if is_whole else " with a finite GSC before training"
        return (
            f"There is no trade-off to fit: {failed} of {len(trials)} trainings{which} failed, and it takes both kinds."
        )
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


def tabulate_coefficients(trials: pd.DataFrame) -> pd.DataFrame:
    """Fit the whole model to outcomes with covariates; returns COEFFICIENT_COLUMNS, a row per term."""
    X, terms = make_design(trials, COVARIATES)
    y, weighting = trials["y"].to_numpy(), weigh_trials(trials, X)
    fit = fit_firth(X, y, weighting)
    between = _jackknife(X, trials)
    rows: list[dict[str, Any]] = []
    for column, term in enumerate(terms):
        low, high = profile_interval(X, y, column, weighting)
        estimate, is_intercept = Estimate(fit.coefficients[column], low, high), term.startswith("α")
        rows.append(
            {"term": term}
            | estimate.as_columns("coefficient", "low", "high")
            # That half of the trainings fail where everything else is at its mean is no question that anybody has.
            | {"p_value": math.nan if is_intercept else likelihood_ratio_p(X, y, [column], weighting)}
            | {"low_between_networks": between[0][column], "high_between_networks": between[1][column]}
            | {"note": "at the mean of the other covariates" if is_intercept else ""}
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
    networks, weights = sorted(trials["architecture"].unique()), share_weight(trials)
    if len(networks) < 2:
        note = "one network alone: none can be left out"
        return pd.DataFrame([{"model": model, "held_out": EVERY_NETWORK, "note": note} for model in MODELS])[
            ["model", "held_out", "note"]
        ].reindex(columns=SCORE_COLUMNS)
    rows = []
    for model, names in MODELS.items():
        # What is not known of every trial could not be asked of the network left out.
        covariates = tuple(name for name in names if np.isfinite(trials[name]).all())
        unknown = [name for name in names if name not in covariates]
        note = f"without {' and '.join(unknown)}, which is not known of every trial" if unknown else ""
        predicted = np.empty(len(trials))
        for network in networks:
            outside = (trials["architecture"] == network).to_numpy()
            predicted[outside] = _predict(trials[~outside], trials[outside], covariates)
        parts = [(network, (trials["architecture"] == network).to_numpy()) for network in networks]
        parts.append((EVERY_NETWORK, np.ones(len(trials), dtype=bool)))
        for name, chosen in parts:
            log_loss, brier = _score(predicted[chosen], trials["y"].to_numpy()[chosen], weights[chosen])
            rows.append((model, name, int(chosen.sum()), log_loss, brier, note))
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
        doubt = f"; {UNTOLD}"
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
    # Without GSC: a network that alone was trained in its way differs from others by an intercept in any case.
    of_trainings, _ = make_design(trials, ())
    comparable = len(independent_columns(np.column_stack([of_trainings, *own]))) - of_trainings.shape[1]
    if not added:
        reason = "GSC does not vary within networks"
        if not comparable:
            reason = "no two networks were trained alike" if own else "there is one network alone"
        return f"Whether the critical GSC is shared cannot be told: {reason}.", None
    p_value = likelihood_ratio_p(whole, trials["y"].to_numpy(), added, weigh_trials(trials, whole))
    who = f"all {len(networks)} networks" if comparable == len(own) else "networks that were trained alike"
    if p_value >= SIGNIFICANT:
        return f"One critical GSC for {who} is not contradicted ({write_p(p_value)}).", p_value
    return f"The critical GSC is not the same in {who} ({write_p(p_value)}).", p_value
