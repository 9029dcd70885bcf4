"""The compiled work of probes beside torch's, which `tests/test_gradient_scale.py` holds against whole Jacobians."""

import math

import pytest
import torch

from study.activations import ACTIVATION_TABLE
from study.normalizations import NORMALIZATION_TABLE
from study.probe_kernels import ProbeKernels

from tests.marks import needs_compiler  # isort: skip

pytestmark = needs_compiler
EXAMPLES, UNITS, VECTORS = 37, 13, 5


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def both(activation="relu", normalization="none"):
    """Return the kernels of the library, and those of torch."""
    native, plain = (ProbeKernels(activation, NORMALIZATION_TABLE[normalization], "cpu") for _ in range(2))
    assert native.number is not None
    plain.number = None
    return native, plain


def assert_same(measured, expected):
    torch.testing.assert_close(measured, expected, rtol=1e-12, atol=1e-13, equal_nan=True)


@pytest.mark.parametrize("normalization", NORMALIZATION_TABLE)
@pytest.mark.parametrize("activation", ACTIVATION_TABLE)
def test_a_layer_is_linearized_as_by_torch(activation, normalization):
    v = 0.3 + 2 * draw(1, EXAMPLES, UNITS)
    for measured, expected in zip(*(kernels.linearize(v) for kernels in both(activation, normalization)), strict=True):
        assert_same(measured, expected)


@pytest.mark.parametrize("skip", [None, torch.full((1, 1, 1), 0.6, dtype=torch.float64)], ids=["plain", "skip"])
@pytest.mark.parametrize("normalization", NORMALIZATION_TABLE)
def test_gradients_come_through_as_by_torch(normalization, skip):
    native, plain = both("tanh", normalization)
    n, slopes, _ = plain.linearize(draw(1, EXAMPLES, UNITS))
    above, gradients = draw(1, VECTORS, EXAMPLES, UNITS, seed=1), draw(1, VECTORS, EXAMPLES, UNITS, seed=2)
    gradients[0, 3], above[0, 3] = 0, 0  # nothing arrives
    of_native, of_torch = gradients.clone(), gradients.clone()
    norms = [kernels.pull_through(g, slopes, n, skip, above) for kernels, g in ((native, of_native), (plain, of_torch))]
    assert norms[0][0, 3] == -torch.inf
    assert_same(*norms)
    assert_same(of_native, of_torch)


def test_gradients_near_the_ends_of_the_range_keep_their_norms():
    native, _ = both()
    n = draw(1, EXAMPLES, UNITS)
    for size in (1e-140, 1e140):
        g = size * draw(1, VECTORS, EXAMPLES, UNITS, seed=1)
        expected = torch.linalg.vector_norm((g / size).flatten(2), dim=2).log() + math.log(size)
        assert_same(native.pull_through(g, torch.ones_like(n), n, None, g), expected)


@pytest.mark.parametrize("activation", ["relu", "sigmoid", "identity"])
@pytest.mark.parametrize("spread", [1.0, 1e-9, 1e-16, 0.0, float("nan")])
@pytest.mark.parametrize("shift", [0.0, 0.3, -5.0])
def test_the_domain_is_measured_as_by_torch(activation, spread, shift):
    n = shift + spread * draw(1, 400, UNITS)
    a = ACTIVATION_TABLE[activation].function(n)
    measured, expected = (kernels.measure_domain(n, a) for kernels in both())
    torch.testing.assert_close(measured, expected, rtol=1e-9, atol=1e-12, equal_nan=True)


@pytest.mark.parametrize(("constant", "examples"), [(0.3, 100_000), (0.851023675935323, 1_000_000), (6.11e-149, 128)])
def test_the_rounding_of_means_is_no_nonlinearity_and_no_spread(constant, examples):
    n = torch.full((1, examples, 1), constant, dtype=torch.float64)
    assert both()[0].measure_domain(n, n.sigmoid()).flatten().tolist() == pytest.approx([0, 0, 0], abs=1e-15)
