"""Theory against its closed forms and published values, and against measurements."""

import math

import numpy as np
import pytest

from study.mean_field import activation_moments, critical_gain, predicted_explosion_rate, squared_growth_by_layer


@pytest.mark.parametrize(
    ("activation", "normalization", "chi"),
    [
        ("relu", "none", 1.0),
        ("relu", "layer", 1.0),
        ("relu", "batch", math.pi / (math.pi - 1)),
        ("tanh", "layer", 1.1778),
        ("tanh", "batch", 1.1778),
        ("selu", "none", 1.0716),
        ("identity", "batch", 1.0),
    ],
)
def test_stationary_growth(activation, normalization, chi):
    assert squared_growth_by_layer(300, activation, normalization)[-1] == pytest.approx(chi, abs=6e-5)


@pytest.mark.parametrize("k", [0.5, 1, 2, 4])
@pytest.mark.parametrize(("activation", "normalization"), [("relu", "batch"), ("tanh", "layer"), ("selu", "none")])
def test_dilution_law(activation, normalization, k):
    vanilla = squared_growth_by_layer(300, activation, normalization)[-1]
    diluted = squared_growth_by_layer(2000, activation, normalization, dilution=k)[-1]
    assert diluted - 1 == pytest.approx((vanilla - 1) / (k * k + 1), rel=1e-4)


def test_moments_of_relu_and_identity():
    assert activation_moments("relu", 1.0) == pytest.approx((1 / math.sqrt(2 * math.pi), 0.5, 0.5), abs=1e-12)
    assert activation_moments("identity", 4.0) == pytest.approx((0, 4, 1), abs=1e-12)


@pytest.mark.parametrize(("activation", "gain"), [("relu", math.sqrt(2)), ("tanh", 1.5925), ("selu", 1.0)])
def test_critical_gains(activation, gain):
    assert critical_gain(activation) == pytest.approx(gain, abs=5e-5)


def test_small_gain_lets_tanh_fade_and_stop_exploding():
    growth = squared_growth_by_layer(400, "tanh", "none", gain=1.0)
    assert (np.diff(growth) < 0).all()
    assert 1 < growth[-1] < 1.01


def test_no_transition_no_rate():
    assert math.isnan(predicted_explosion_rate(2, "relu", "batch"))


def test_huge_dilution_is_the_identity():
    assert predicted_explosion_rate(50, "relu", "batch", dilution=1e200) == pytest.approx(1.0)


def test_a_stream_that_fades_away_has_no_rate():
    assert math.isnan(predicted_explosion_rate(2000, "tanh", "none", gain=0.1))
