"""Theory against its closed forms and published values, and against measurements."""

import math

import numpy as np
import pytest
import torch

from study.mean_field import (
    activation_moments,
    critical_gain,
    finite_batch_moments,
    predicted_explosion_rate,
    predicted_trainable_depth,
    squared_growth_by_layer,
    stationary_explosion_rate,
)
from study.trial_config import ACTIVATIONS, NORMALIZATIONS
from tests.reference import PHI


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


# Without normalization gelu's and silu's variance maps are unstable: rounding drives them from the stationary state.
STATIONARY = [
    (activation, normalization, batch)
    for activation in ("relu", "tanh", "sigmoid", "gelu")
    for normalization, batch in (("batch", 64), ("batch", None), ("layer", None), ("none", None))
    if (activation, normalization) != ("gelu", "none")
]


@pytest.mark.parametrize(("activation", "normalization", "batch"), STATIONARY)
def test_the_stationary_rate_is_that_of_great_depth(activation, normalization, batch):
    for k in (0.0, 1.0):
        deep = squared_growth_by_layer(400, activation, normalization, k, batch_size=batch)[-1]
        assert stationary_explosion_rate(activation, normalization, k, batch) == pytest.approx(
            math.sqrt(deep), rel=1e-6
        )


@pytest.mark.parametrize(("batch", "chi"), [(16, 1.590), (64, 1.493), (250, 1.473)])
def test_finite_batches_with_relu(batch, chi):
    assert squared_growth_by_layer(200, "relu", "batch", batch_size=batch)[-1] == pytest.approx(chi, abs=5e-4)


@pytest.mark.parametrize("batch", [5, 16, 250])
def test_finite_batches_in_closed_form(batch):
    # relu: the kernels of the arc-cosine family at correlation −1/(B−1); identity: (B−2)/(B−3).
    rho = -1 / (batch - 1)
    kernel = (math.sqrt(1 - rho**2) + rho * (math.pi - math.acos(rho))) / (2 * math.pi)
    both_on = 0.25 + math.asin(rho) / (2 * math.pi)
    pulled_back = (batch - 1) * 0.5 * (1 - 2 / batch) + (1 - 1 / batch) * (both_on + kernel)
    slope = batch / ((batch - 1) * (batch - 3)) * pulled_back
    assert finite_batch_moments("relu", batch) == pytest.approx((kernel, 0.5 - kernel, slope), rel=1e-10)
    _, variance, slope = finite_batch_moments("identity", batch)
    assert slope / variance == pytest.approx((batch - 2) / (batch - 3), rel=1e-10)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_large_batches_tend_to_infinite_ones(activation):
    mean, square, slope = activation_moments(activation, 1.0)
    expected = (mean**2, square - mean**2, slope)
    assert finite_batch_moments(activation, 10**6) == pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_tiny_batches_have_no_growth():
    assert all(math.isnan(value) for value in finite_batch_moments("relu", 3))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_moments_against_plain_sampling(activation):
    z = np.random.default_rng(0).standard_normal(400_000)
    with torch.no_grad():
        sampled = PHI[activation](torch.from_numpy(z)).numpy()
    mean, square, _ = activation_moments(activation, 1.0)
    assert sampled.mean() == pytest.approx(mean, abs=4 * sampled.std() / math.sqrt(len(z)))
    assert (sampled**2).mean() == pytest.approx(square, abs=4 * (sampled**2).std() / math.sqrt(len(z)))


@pytest.mark.parametrize(("activation", "chi"), [("gelu", 1.319), ("silu", 1.212)])
def test_published_batch_norm_growth(activation, chi):
    assert squared_growth_by_layer(300, activation, "batch")[-1] == pytest.approx(chi, abs=6e-4)


@pytest.mark.parametrize("normalization", ["none", "layer", "rms"])
def test_networks_that_look_linear_do_not_explode(normalization):
    growth = squared_growth_by_layer(50, "relu", normalization, initialization="looks_linear")
    assert growth == pytest.approx(np.ones(48))


def test_the_trainable_depth():
    assert predicted_trainable_depth(1.2112) == pytest.approx(16 / math.log(1.467), rel=1e-3)
    assert predicted_trainable_depth(1.0) == predicted_trainable_depth(0.9) == math.inf


@pytest.mark.parametrize("scale", [1e2, 1e4, 1e8, 1e30])
def test_saturating_activations_at_any_scale(scale):
    # φ' is concentrated around 0: ∫ sech⁴ = 4/3 and ∫ (σ')² = 1/6, times the Gaussian density at 0.
    for activation, area in (("tanh", 4 / 3), ("sigmoid", 1 / 6)):
        expected = area / math.sqrt(2 * math.pi) / scale
        assert activation_moments(activation, scale**2)[2] == pytest.approx(expected, rel=20 / scale**2 + 1e-9)


def test_gains_beyond_the_range_of_numbers_have_no_rate():
    for activation in ACTIVATIONS:
        for normalization in NORMALIZATIONS:
            for gain in (1e-100, 1e-5, 1e5, 1e100):
                rate = predicted_explosion_rate(squared_growth_by_layer(60, activation, normalization, gain=gain))
                assert math.isnan(rate) or 0 < rate < math.inf


def test_no_transition_no_rate():
    assert math.isnan(predicted_explosion_rate(squared_growth_by_layer(2, "relu", "batch")))


def test_huge_dilution_is_the_identity():
    assert predicted_explosion_rate(squared_growth_by_layer(50, "relu", "batch", dilution=1e200)) == pytest.approx(1.0)


def test_a_stream_that_fades_away_has_no_rate():
    assert math.isnan(predicted_explosion_rate(squared_growth_by_layer(2000, "tanh", "none", gain=0.1)))
