"""Counts of failures at several depths → likelihood of the curve of failure over depth.

Legend:
    D50     the depth at which half of the trainings fail
    σ       spread: the standard deviation of ln(depth at which training begins to fail)
    λ       lapse rate: the share of trainings, shallow or deep, that end against the rule, for reasons of their own
    P(fail) = λ + (1 − 2λ) Φ((ln D − ln D50)/σ), so that P(D50) = 1/2 whatever σ and λ are
With a few outcomes per depth the likelihood of σ has its maximum far too low, often at 0, and intervals that rest on it
cover as little as 86%. So ln σ is drawn weakly to ln 0.4 ± 0.75 and λ towards 0 (mean 0.03), and the drop of ln
likelihood that bounds an interval is t²/2 with N − 3 degrees of freedom in place of χ²/2. Neither is felt with many
outcomes.
Check: D50 = 20, σ = 0.4, λ = 0: at depth 30, (ln 1.5)/0.4 = 1.01 and P = 0.84.
"""

import dataclasses
import functools
import math

import numpy as np
from scipy import optimize, special, stats

SPREADS = np.geomspace(0.04, 1.6, 16)
LAPSES = np.array([0.0, 0.01, 0.03, 0.1])
TYPICAL_SPREAD, SPREAD_OF_LN_SPREAD, MEAN_LAPSE = 0.4, 0.75, 0.03
REACH = 4.0
"""D50 is looked for from the smallest depth / REACH to the greatest · REACH; intervals that go on are open."""
STEPS = 181
HOPELESS = 3.0
"""ln likelihood by which a place on the grid falls short from which no search leads to the greatest."""


@dataclasses.dataclass(frozen=True)
class CurveFit:
    """The most likely curve: D50 as ln, σ and λ."""

    ln_d50: float
    spread: float
    lapse: float


@functools.lru_cache(maxsize=64)
def make_grid(depths: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return ln D50 [steps], and ln P(fail) and ln P(succeed) [steps, σ, λ, depths] over the grid of curves."""
    ln_depths = np.log(np.array(depths))
    ln_d50 = np.linspace(ln_depths.min() - math.log(REACH), ln_depths.max() + math.log(REACH), STEPS)
    return ln_d50, *log_probabilities(ln_depths - ln_d50[:, None])


def log_probabilities(distances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return ln P(fail) and ln P(succeed) [steps, σ, λ, places] from ln D − ln D50 [steps, places]."""
    share = special.ndtr(distances[:, None, None, :] / SPREADS[:, None, None])
    failing = np.clip(LAPSES[:, None] + (1 - 2 * LAPSES[:, None]) * share, 1e-12, 1 - 1e-12)
    return np.log(failing), np.log1p(-failing)


def penalty(spread: np.ndarray, lapse: np.ndarray) -> np.ndarray:
    """Return what is added to the ln likelihood [σ, λ]."""
    drawn = -0.5 * (np.log(spread / TYPICAL_SPREAD) / SPREAD_OF_LN_SPREAD) ** 2
    return drawn[..., None] - lapse / MEAN_LAPSE


def likelihood_drop(trials: int) -> float:
    """Return by how much ln likelihood may fall short of its maximum within a 95% interval."""
    return float(stats.t.ppf(0.975, max(trials - 3, 1)) ** 2 / 2)


def penalised_likelihoods(
    depths: tuple[float, ...], trials: np.ndarray, failures: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return ln D50 [steps] and the penalised ln likelihood [replicates, steps, σ, λ] over the grid of curves.

    Args:
        depths: ascending.
        trials: counts [depths].
        failures: counts [replicates, depths].
    """
    ln_d50, ln_failing, ln_succeeding = make_grid(depths)
    size, shape = len(depths), ln_failing.shape[:3]
    likelihoods = failures @ ln_failing.reshape(-1, size).T + (trials - failures) @ ln_succeeding.reshape(-1, size).T
    return ln_d50, likelihoods.reshape(-1, *shape) + penalty(SPREADS, LAPSES)


def fit_curve(depths: np.ndarray, trials: np.ndarray, failures: np.ndarray) -> CurveFit:
    """Return the curve with the greatest penalised likelihood, from counts [depths], which may be fractions."""
    ln_depths = np.log(depths)
    low, high = ln_depths.min() - math.log(REACH), ln_depths.max() + math.log(REACH)

    def cost(parameters: np.ndarray) -> float:
        ln_d50, ln_spread, lapse = parameters
        share = special.ndtr((ln_depths - ln_d50) / math.exp(ln_spread))
        failing = np.clip(lapse + (1 - 2 * lapse) * share, 1e-12, 1 - 1e-12)
        likelihood = failures @ np.log(failing) + (trials - failures) @ np.log1p(-failing)
        return -float(likelihood + penalty(np.array([math.exp(ln_spread)]), np.array([lapse]))[0, 0])

    ln_d50, likelihoods = penalised_likelihoods(tuple(depths.tolist()), trials, failures[None])
    bounds = [(low, high), (math.log(SPREADS[0]), math.log(SPREADS[-1])), (0.0, LAPSES[-1])]
    found = []
    # There may be several maxima: few lapses and a wide spread, or more lapses and a narrow one.
    for place, lapse in enumerate(LAPSES):
        of_lapse = likelihoods[0, :, :, place]
        if of_lapse.max() < likelihoods.max() - HOPELESS:
            continue
        step, spread = np.unravel_index(of_lapse.argmax(), of_lapse.shape)
        start = [ln_d50[step], math.log(SPREADS[spread]), lapse]
        found.append(
            optimize.minimize(
                cost, start, method="L-BFGS-B", bounds=bounds, options={"ftol": 1e-15, "gtol": 1e-9, "maxiter": 500}
            )
        )
    best = min(found, key=lambda result: result.fun)
    return CurveFit(float(best.x[0]), math.exp(best.x[1]), float(best.x[2]))


def find_interval(places: np.ndarray, likelihood: np.ndarray, drop: float) -> tuple[float | None, float | None]:
    """Return where ln likelihood [places] has fallen by `drop` on either side of its maximum; None: nowhere there."""
    level = likelihood.max() - drop
    inside = np.flatnonzero(likelihood >= level)
    first, last = inside[0], inside[-1]
    return (
        None if first == 0 else _cross(places, likelihood, first - 1, level),
        None if last == len(places) - 1 else _cross(places, likelihood, last, level),
    )


def _cross(places: np.ndarray, likelihood: np.ndarray, left: int, level: float) -> float:
    """Interpolate between a place and the next one."""
    below, above = likelihood[left], likelihood[left + 1]
    return float(places[left] + (level - below) / (above - below) * (places[left + 1] - places[left]))
