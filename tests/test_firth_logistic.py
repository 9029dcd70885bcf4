"""Firth's fits against textbook values and brute force."""

import numpy as np
import pytest
from scipy import optimize, special

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

X = np.column_stack([np.ones(10), np.arange(10.0)])
SEPARATED = (X[:, 1] > 4.5).astype(float)
MIXED = np.array([0, 0, 1, 0, 0, 1, 0, 1, 1, 1.0])


def penalised(beta, y, design=X):
    linear = design @ beta
    p = special.expit(linear)
    information = design.T @ ((p * (1 - p))[:, None] * design)
    return (
        np.sum(y * special.log_expit(linear) + (1 - y) * special.log_expit(-linear))
        + np.linalg.slogdet(information)[1] / 2
    )


@pytest.mark.parametrize(("failures", "trials"), [(0, 4), (2, 5), (7, 7)])
def test_an_intercept_has_the_known_solution(failures, trials):
    y = np.repeat([1.0, 0.0], [failures, trials - failures])
    fit = fit_firth(np.ones((trials, 1)), y)
    assert predict_failure(np.ones((1, 1)), fit.coefficients) == pytest.approx((failures + 0.5) / (trials + 1))


@pytest.mark.parametrize("y", [SEPARATED, MIXED])
def test_the_maximum_is_the_one_of_brute_force(y):
    fit = fit_firth(X, y)
    found = optimize.minimize(
        lambda beta: -penalised(beta, y), [0, 0], method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-13}
    )
    assert fit.coefficients == pytest.approx(found.x, abs=1e-5)
    assert fit.likelihood == pytest.approx(-found.fun)


@pytest.mark.parametrize("y", [SEPARATED, MIXED])
def test_what_is_repeated_counts_once(y):
    """All trials under three conditions, each with an intercept of its own; the third with one outcome that differs."""
    zero = np.zeros(10)
    X_thrice = np.column_stack([np.r_[1 + zero, zero, zero], np.r_[zero, 1 + zero, zero], np.tile(X[:, 1], 3)])
    X_thrice = np.column_stack([X_thrice, np.r_[zero, zero, 1 + zero]])
    parts = tuple(Part(np.arange(10) + 10 * part, [(0, 1, 3)[part], 2], 1 / 3) for part in range(3))
    weighting = Weighting(np.full(30, 1 / 3), parts)
    once, fit = fit_firth(X, y), fit_firth(X_thrice, np.tile(y, 3), weighting)
    assert fit.coefficients == pytest.approx(once.coefficients[[0, 0, 1, 0]])
    assert profile_interval(X_thrice, np.tile(y, 3), 2, weighting) == pytest.approx(profile_interval(X, y, 1), rel=1e-4)
    assert likelihood_ratio_p(X_thrice, np.tile(y, 3), [2], weighting) == pytest.approx(likelihood_ratio_p(X, y, [1]))
    others = np.r_[y, y, np.roll(y, 1)]
    found = optimize.minimize(
        lambda beta: -sum(penalised(beta[part.columns], others[part.trials]) / 3 for part in parts),
        fit.coefficients,
        method="Nelder-Mead",
        options={"xatol": 1e-9, "fatol": 1e-13, "maxiter": 4000, "maxfev": 4000},
    )
    assert fit_firth(X_thrice, others, weighting).coefficients == pytest.approx(found.x, abs=1e-4)


@pytest.mark.parametrize("y", [SEPARATED, MIXED])
def test_bounds_lie_where_the_profile_has_fallen(y):
    best = fit_firth(X, y).likelihood
    for bound in profile_interval(X, y, 1):
        profile = max(penalised(np.array([a, bound]), y) for a in -4.5 * bound + np.linspace(-6, 6, 4001))
        assert best - profile == pytest.approx(1.9207, abs=2e-3)


def test_the_critical_value_of_a_clean_step():
    value, low, high = critical_value(X, SEPARATED, 1, 0)
    assert value == pytest.approx(4.5)
    assert low < 4.5 < high
    assert value - low == pytest.approx(high - value, rel=1e-3)
    assert critical_value(X, 1 - SEPARATED, 1, 0) == (None, None, None)


def test_p_values_are_uniform_where_there_is_no_effect():
    generator = np.random.default_rng(0)
    x = np.column_stack([np.ones(60), generator.standard_normal(60), generator.standard_normal(60)])
    p = [likelihood_ratio_p(x, (generator.random(60) < 0.4).astype(float), [1, 2]) for _ in range(300)]
    assert 0.02 <= np.mean(np.array(p) < 0.05) <= 0.09  # s.d. of the share: 1.3%


def test_columns_that_depend_on_others_are_named_and_refused():
    design = np.column_stack([X, X.sum(axis=1), np.zeros(10)])
    assert independent_columns(design) == [0, 1]
    with pytest.raises(ValueError, match="design: 4 columns depend linearly"):
        fit_firth(design, MIXED)
