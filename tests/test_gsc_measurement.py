"""From measured networks to estimates and words."""

import math

import numpy as np
import pytest

from study.gsc_measurement import estimate_rate
from study.gsc_of_networks import measure_networks
from study.gsc_reading import read_aloud, write_power
from study.mean_field import predicted_explosion_rate, squared_growth_by_layer


@pytest.mark.parametrize(
    ("log10_value", "text"),
    [
        (3.9, "8·10³"),
        (0.0, "1"),
        (0.2, "1.6"),
        (1.5, "32"),
        (2.5, "316"),
        (3.99, "1·10⁴"),
        (-2.0, "1·10⁻²"),
        (12.3, "2·10¹²"),
    ],
)
def test_powers_of_ten(log10_value, text):
    assert write_power(log10_value) == text


@pytest.mark.parametrize(
    ("mean", "low", "high", "first", "last"),
    [
        (1.21, 1.20, 1.22, "explodes: ×1.210 per layer", "trainable to about depth 42 at most (16/ln χ)"),
        (1.02, 0.99, 1.05, "undecided: ×1.020 per layer (0.990 to 1.050)", ""),
        (1.001, 1.0005, 1.0015, "neither explodes nor shrinks: ×1.001 per layer", ""),
        (0.5, 0.4, 0.6, "shrinks: ×0.500 per layer", ""),
        (1.21, None, None, "explodes: ×1.210 per layer (one seed)", "trainable to about depth 42 at most (16/ln χ)"),
        (None, None, None, "no rate: gradients reach fewer than two inner layers", ""),
    ],
)
def test_numbers_in_words(mean, low, high, first, last):
    words = read_aloud(mean, None if low is None else (low, high), 3.9, 1.211, "at depth 50")
    assert words == "; ".join(filter(None, [first, "GSC 8·10³ at depth 50", "theory ×1.211", last]))


def test_rates_are_averaged_as_factors():
    estimate = estimate_rate(np.array([1.0, 4.0]))
    assert estimate.mean == pytest.approx(2.0)
    assert estimate.low * estimate.high == pytest.approx(4.0)
    assert estimate_rate(np.array([1.2, math.nan])).mean is None


def test_seeds_are_measured_independently_and_beside_theory(make_trial):
    trials = [make_trial(seed=seed, width=30, normalization="batch", batch_size=40) for seed in range(3)]
    together = measure_networks(trials, inputs=20, outputs=4)
    alone = [measure_networks([trial], inputs=20, outputs=4) for trial in trials]
    assert together.log10_gsc.mean == pytest.approx(np.mean([measured.log10_gsc.mean for measured in alone]), abs=1e-12)
    assert alone[0].log10_gsc.standard_deviation is None
    expected = predicted_explosion_rate(squared_growth_by_layer(5, "relu", "batch", batch_size=40))
    assert together.predicted_explosion_rate == expected
    assert together.settings["batch"] == 40
