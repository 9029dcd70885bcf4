"""Design matrix and outcomes → logistic regression that stays finite when a covariate separates failures perfectly.

Deep networks fail and shallow ones do not, often without an overlap: then the plain likelihood has no maximum. Firth's
penalty ½ ln|XᵀWX| (Jeffreys' prior) gives one, and takes away the first-order bias of small samples. Intervals and
tests are of the penalised likelihood, in which fixed coefficients keep their columns in the penalty.
Sources: Firth 1993, "Bias reduction of maximum likelihood estimates"; Heinze and Schemper 2002, "A solution to the
problem of separation in logistic regression".
Check: one intercept, f failures of n: p = (f + ½)/(n + 1).

Trials that repeat each other under m conditions (`Weighting`) weigh 1/m, so that they count as one. Each condition has
intercepts of its own, and one penalty of the whole design would grow with every one of them: the penalty is therefore
the weighted sum of those of the conditions. Trials repeated m times, all alike, have the fit of those not repeated.

Legend:  X design [trials, columns];  y outcomes [trials], 1 for a failure;  β coefficients [columns].
"""

import dataclasses
from typing import Any

import numpy as np
from scipy import optimize, special, stats

ITERATIONS, TOLERANCE, SAME_LIKELIHOOD = 200, 1e-7, 1e-9
HALF_CHI_SQUARE = float(stats.chi2.ppf(0.95, 1) / 2)
FARTHEST = 60.0
"""Intervals are looked for up to so many standard errors away; they are open when they go on."""


@dataclasses.dataclass(frozen=True)
class Part:
    """Trials (their places) with a penalty of their own, the columns that are independent there, and what it weighs."""

    trials: Any
    columns: Any
    weight: float


@dataclasses.dataclass(frozen=True)
class Weighting:
    """What the trials weigh, [trials], and the parts that they fall into."""

    trials: np.ndarray
    parts: tuple[Part, ...] = (Part(slice(None), slice(None), 1.0),)


@dataclasses.dataclass(frozen=True)
class FirthFit:
    """β, its covariance [columns, columns] (inverse information), and the penalised ln likelihood."""

    coefficients: np.ndarray
    covariance: np.ndarray
    likelihood: float


def independent_columns(X: np.ndarray) -> list[int]:
    """Return the columns, first come first served, that are no linear combination of those before them."""
    kept: list[int] = []
    for column in range(X.shape[1]):
        if np.linalg.matrix_rank(X[:, [*kept, column]], tol=1e-8 * np.sqrt(len(X)) * max(1.0, np.abs(X).max())) > len(
            kept
        ):
            kept.append(column)
    return kept


def fit_firth(
    X: np.ndarray,
    y: np.ndarray,
    weighting: Weighting | None = None,
    fixed: dict[int, float] | None = None,
    start: np.ndarray | None = None,
) -> FirthFit:
    """Maximise the penalised likelihood over the coefficients that are not `fixed` (column → value), from `start`.

    Without a weighting every trial weighs 1, in one part. Raises ValueError when columns depend linearly on each other.
    """
    fixed, weighting = fixed or {}, weighting or Weighting(np.ones(len(y)))
    free = np.array([column for column in range(X.shape[1]) if column not in fixed], dtype=int)
    beta = np.zeros(X.shape[1]) if start is None else start.copy()
    beta[list(fixed)] = list(fixed.values())
    likelihood, information, score = _evaluate(X, y, weighting, beta)
    if not np.isfinite(likelihood):
        raise ValueError(f"design: {X.shape[1]} columns depend linearly on each other; leave one out")
    for _ in range(ITERATIONS):
        if not len(free) or np.abs(score[free]).max() < TOLERANCE:
            break
        step = np.linalg.solve(information[np.ix_(free, free)], score[free])
        step *= min(1.0, 5.0 / np.abs(X[:, free] @ step).max())
        for _halving in range(40):
            trial = beta.copy()
            trial[free] += step
            candidate = _evaluate(X, y, weighting, trial)
            if candidate[0] >= likelihood - SAME_LIKELIHOOD:
                break
            step /= 2
        gained = candidate[0] - likelihood
        beta, (likelihood, information, score) = trial, candidate
        if gained < SAME_LIKELIHOOD and np.abs(X[:, free] @ step).max() < TOLERANCE:
            break
    return FirthFit(beta, np.linalg.pinv(information), float(likelihood))


def predict_failure(X: np.ndarray, coefficients: np.ndarray) -> np.ndarray:
    """Return P(fail) [trials]."""
    return special.expit(X @ coefficients)


def likelihood_ratio_p(X: np.ndarray, y: np.ndarray, columns: list[int], weighting: Weighting | None = None) -> float:
    """Return the p value of β = 0 in some columns at once, by the penalised likelihood ratio."""
    constrained = fit_firth(X, y, weighting, dict.fromkeys(columns, 0.0))
    drop = fit_firth(X, y, weighting).likelihood - constrained.likelihood
    return float(stats.chi2.sf(max(2 * drop, 0.0), len(columns)))


def profile_interval(
    X: np.ndarray, y: np.ndarray, column: int, weighting: Weighting | None = None
) -> tuple[float | None, float | None]:
    """Return the 95% profile interval of a coefficient; None where it is open."""
    best = fit_firth(X, y, weighting)
    center, error = float(best.coefficients[column]), float(np.sqrt(best.covariance[column, column]))

    # How the other coefficients go along with this one: a start from 0 would overflow far away.
    tangent = best.covariance[:, column] / best.covariance[column, column]

    def surplus(value: float) -> float:
        fit = fit_firth(X, y, weighting, {column: value}, best.coefficients + (value - center) * tangent)
        return best.likelihood - fit.likelihood - HALF_CHI_SQUARE

    return _find_root(surplus, center, -error), _find_root(surplus, center, error)


def critical_value(
    X: np.ndarray, y: np.ndarray, slope: int, intercept: int, weighting: Weighting | None = None
) -> tuple[float | None, float | None, float | None]:
    """Return where column `slope` makes P = ½ for trials of column `intercept`, with its 95% profile interval.

    All of it None when failures do not become more likely with that column; bounds None where open.
    """
    best = fit_firth(X, y, weighting)
    rise = float(best.coefficients[slope])
    if rise <= 0:
        return None, None, None
    value = float(-best.coefficients[intercept] / rise)
    spread = float(np.ptp(X[:, slope])) or 1.0

    def surplus(place: float) -> float:
        # With x − c for x, every coefficient keeps its meaning but the intercepts, and P(x = c) = ½ is intercept = 0.
        moved = X.copy()
        moved[:, slope] -= place * (X[:, intercept] != 0)
        constrained = fit_firth(moved, y, weighting, {intercept: 0.0}, best.coefficients)
        return best.likelihood - constrained.likelihood - HALF_CHI_SQUARE

    return value, _find_root(surplus, value, -spread / 20), _find_root(surplus, value, spread / 20)


def _find_root(surplus, center: float, step: float) -> float | None:  # type: ignore[no-untyped-def]
    """Return where a function that is negative at `center` becomes positive, in the direction of `step`."""
    inner, distance = center, 1.0
    while distance <= FARTHEST:
        outer = center + distance * step
        try:
            if surplus(outer) > 0:
                return float(optimize.brentq(surplus, inner, outer, xtol=abs(step) * 1e-4, rtol=1e-8))
        except ValueError:  # So far out that every trial is certain, and the information is 0 in floating point.
            return None
        inner, distance = outer, distance * 1.6
    return None


def _evaluate(
    X: np.ndarray, y: np.ndarray, weighting: Weighting, beta: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray]:
    """Return the penalised ln likelihood, the information and the penalised score."""
    linear, weights = X @ beta, weighting.trials
    p = special.expit(linear)
    variances = weights * np.maximum(p * (1 - p), 1e-300)
    likelihood = float((weights * y) @ special.log_expit(linear) + (weights * (1 - y)) @ special.log_expit(-linear))
    information, leverage = X.T @ (variances[:, None] * X), np.empty(len(y))
    for part in weighting.parts:
        own, own_variances = X[part.trials][:, part.columns], variances[part.trials]
        own_information = own.T @ (own_variances[:, None] * own)
        sign, determinant = np.linalg.slogdet(own_information)
        if sign <= 0:
            return -np.inf, information, np.zeros_like(beta)
        likelihood += part.weight * determinant / 2
        hat = own_variances * np.einsum("ij,ji->i", own, np.linalg.solve(own_information, own.T))
        leverage[part.trials] = part.weight * hat
    return likelihood, information, X.T @ (weights * (y - p) + leverage * (0.5 - p))
