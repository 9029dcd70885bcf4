"""The best dilution is found, and its interval holds it."""

import numpy as np
import pytest

from analysis.best_dilution import estimate_best_dilutions, find_best_dilution
from tests.simulated_studies import Truth, simulate_study

LEVELS = np.array([0, 0.5, 1, 2, 4, 8.0])


def errors_at(best, noise=0.0, seeds=3, generator=None):
    dilutions = np.repeat(LEVELS, seeds)
    errors = 0.3 + 0.1 * np.log((1 + dilutions) / (1 + best)) ** 2
    return dilutions, errors + (noise * generator.standard_normal(len(errors)) if generator else 0)


def test_the_best_level_is_exact_without_noise():
    truth = Truth(dilutions=tuple(LEVELS), depths=(10, 50), best_dilution=2.0, trainable_depth=1e6)
    table = estimate_best_dilutions(simulate_study(truth)).table
    assert table["best_dilution"].tolist() == [2.0, 2.0]
    assert table["low"].tolist() == [1.0, 1.0]
    assert table["high"].tolist() == [4.0, 4.0]
    assert table["error"].tolist() == pytest.approx([0.3, 0.3])
    assert table["not_excluded"].tolist() == ["2", "2"]


@pytest.mark.parametrize("noise", [0.01, 0.03])
def test_intervals_hold_an_optimum_between_levels(noise):
    """Neighbours of what is kept are added, so that more than 95% are covered."""
    generator = np.random.default_rng(0)
    covered = 0
    for _ in range(300):
        best = float(np.exp(generator.uniform(np.log(0.6), np.log(6))))
        covered += find_best_dilution(*errors_at(best, noise, generator=generator))[0].contains(best)
    assert covered / 300 >= 0.95


def test_the_best_level_is_rarely_excluded():
    """Of levels whose truth is level 2, the level itself is kept in 95% or more (Bonferroni)."""
    generator, kept = np.random.default_rng(1), 0
    for _ in range(400):
        kept += 2.0 in find_best_dilution(*errors_at(2.0, 0.05, generator=generator))[1]
    assert kept / 400 >= 0.93  # s.d. of the share: 1.1%


def test_an_optimum_at_the_end_is_open():
    dilutions = np.repeat([0.0, 1, 2, 4], 3)
    estimate, _ = find_best_dilution(dilutions, 0.9 - 0.1 * dilutions + np.tile([0, 0.001, -0.001], 4))
    assert (estimate.value, estimate.high, estimate.bound) == (4.0, None, "≥")
    assert "may not be enough" in estimate.note


@pytest.mark.parametrize(
    ("dilutions", "errors", "note"),
    [
        ([], [], "no training ended"),
        ([np.nan], [0.1], "no training ended"),
        ([1, 1], [0.1, 0.2], "k = 1 alone"),
        ([0, 1], [0.1, 0.2], "one seed"),
        ([0, 0, 1, 1], [0.9, 0.9, 0.9, 0.9], "the same error"),
        ([0, 0, 1, 1], [0.1, 0.9, 0.2, 0.7], "any of k = 0, 1 may be the best"),
    ],
)
def test_too_little_is_said(dilutions, errors, note):
    estimate, _ = find_best_dilution(np.array(dilutions, dtype=float), np.array(errors, dtype=float))
    assert note in estimate.note
    assert (estimate.low, estimate.high) == (None, None)


def test_the_greatest_of_two_levels_is_told_from_any_level():
    estimate, kept = find_best_dilution(np.repeat([0.0, 2.0], 2), np.array([0.8, 0.81, 0.4, 0.41]))
    assert (estimate.value, kept) == (2.0, [2.0])
    assert estimate.note == "no interval: k = 0 is not the best, and more than k = 2 was not tried"
