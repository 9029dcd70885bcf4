"""The packed network against one member at a time, written plainly."""

import math

import pytest
import torch

from study.activations import ACTIVATION_TABLE
from study.backpropagation import RUNNING_MOMENTUM
from study.initialization import LayerShape, draw_orthogonal
from study.kernels import average
from study.mean_field import critical_gain
from study.network import PackedNetwork, draw_members
from study.random_streams import make_generator
from study.trial_config import ACTIVATIONS, INITIALIZATIONS, NORMALIZATIONS
from tests.reference import PHI, member_weights, plain_stream

INPUTS, CLASSES, EXAMPLES = 9, 4, 11


def make_network(trials, dtype=torch.float64):
    return PackedNetwork(trials, INPUTS, CLASSES, dtype=dtype)


def inputs(seed=0):
    return torch.randn(EXAMPLES, INPUTS, dtype=torch.float64, generator=make_generator(seed, "test"))


TORCH_FUNCTIONS = {
    "relu": torch.relu,
    "leaky_relu": torch.nn.functional.leaky_relu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "selu": torch.selu,
    "elu": torch.nn.functional.elu,
    "gelu": torch.nn.functional.gelu,
    "silu": torch.nn.functional.silu,
    "softplus": torch.nn.functional.softplus,
    "identity": torch.nn.Identity(),
}


def value_and_slope(function, z):
    argument = z.clone().requires_grad_()
    value = function(argument)
    return value.detach(), *torch.autograd.grad(value.sum(), argument)


Z = torch.tensor([-80.0, -40, -20, -17, -12, -5, -1.5, -0.5, -0.1, -1e-3, 0, 1e-3, 0.3, 1, 5, 12, 19, 80])


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-14), (torch.float32, 1e-6)])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_and_their_slopes_are_those_of_torch(activation, dtype, tolerance):
    ours = value_and_slope(ACTIVATION_TABLE[activation].function, Z.to(dtype))
    theirs = value_and_slope(TORCH_FUNCTIONS[activation], Z.double())
    for one, other in zip(ours, theirs, strict=True):
        # gelu is z/2 · (1 + erf), whose rounding grows with |z| far below 0, in torch as here.
        absolute = 20 * tolerance if activation == "gelu" else tolerance
        torch.testing.assert_close(one.double(), other, rtol=5 * tolerance, atol=absolute)


@pytest.mark.parametrize("activation", ["sigmoid", "silu", "softplus", "elu", "selu"])
def test_slopes_keep_their_digits_far_below_zero(activation):
    ours = value_and_slope(ACTIVATION_TABLE[activation].function, Z[:6])
    theirs = value_and_slope(TORCH_FUNCTIONS[activation], Z[:6].double())
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=0)


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "tanh", "sigmoid", "softplus", "selu", "elu", "identity"])
def test_infinity_stays_what_it_is(activation):
    z = torch.tensor([-math.inf, math.inf])
    torch.testing.assert_close(ACTIVATION_TABLE[activation].function(z), TORCH_FUNCTIONS[activation](z))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_equal_their_formulas(activation):
    z = torch.linspace(-6, 6, 50, dtype=torch.float64)
    ours, theirs = (value_and_slope(phi, z) for phi in (ACTIVATION_TABLE[activation].function, PHI[activation]))
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_stay_finite_in_single_precision(activation):
    z = torch.tensor([-3e38, -1e4, -88.0, 0.0, 88.0, 1e4, 3e38], requires_grad=True)
    value = ACTIVATION_TABLE[activation].function(z)
    (slope,) = torch.autograd.grad(value.sum(), z)
    assert value.isfinite().all() or activation == "selu"  # 1.05 times the largest number
    assert slope.isfinite().all()


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_are_bitwise_the_same_wherever_an_element_lies(activation):
    phi = ACTIVATION_TABLE[activation].function
    z = 4 * torch.randn(999, generator=make_generator(0, "test"))
    for start, stop in ((0, 1), (3, 20), (5, 998), (990, 999)):
        assert torch.equal(phi(z)[start:stop], phi(z[start:stop].clone()))


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_forward_equals_the_plain_recursion(make_trial, activation, normalization):
    trials = [
        make_trial(activation=activation, normalization=normalization, dilution=k, seed=k, initialization=name)
        for k, name in ((0, "gaussian"), (1, "orthogonal"), (3, "looks_linear" if activation == "relu" else "gaussian"))
    ]
    network = make_network(trials)
    for parameter in network.parameters[1::2]:  # biases start at zero: give them something to do
        parameter.data.normal_(generator=make_generator(0, "bias"))
    stream = []
    logits = network.forward(inputs(), network.normalize_by_batch, stream)
    for member, trial in enumerate(trials):
        expected_stream, expected = plain_stream(trial, member_weights(network, member), inputs())
        torch.testing.assert_close(logits[member], expected, rtol=1e-11, atol=1e-11)
        assert len(stream) == len(expected_stream) == trial.depth - 1
        for state, expected_state in zip(stream, expected_stream, strict=True):
            torch.testing.assert_close(state[member], expected_state, rtol=1e-11, atol=1e-11)


def test_depth_two_has_one_state_and_no_hidden_layer(make_trial):
    network = make_network([make_trial(depth=2)])
    stream = []
    assert network.forward(inputs(), network.normalize_by_batch, stream).shape == (1, EXAMPLES, CLASSES)
    assert len(stream) == 1


def test_infinite_dilution_keeps_the_first_state(make_trial):
    network = make_network([make_trial(dilution=1e200)])
    stream = []
    network.forward(inputs(), network.normalize_by_batch, stream)
    torch.testing.assert_close(stream[-1], stream[0])


def test_batch_normalization_equals_torch_in_training_and_evaluation(make_trial):
    network = make_network([make_trial(normalization="batch", depth=3)])
    module = torch.nn.BatchNorm1d(12, affine=False, dtype=torch.float64)
    v = torch.randn(1, EXAMPLES, 12, dtype=torch.float64) * 3 + 1
    for _ in range(3):
        normalized, mean, variance = network.normalization.standardise(v)
        for running, batch, factor in (
            (network.running.mean, torch.stack([torch.zeros_like(mean), mean]), 1.0),
            (network.running.variance, torch.stack([torch.ones_like(mean), variance]), EXAMPLES / (EXAMPLES - 1)),
        ):
            average(running, batch, RUNNING_MOMENTUM, factor)
        torch.testing.assert_close(normalized[0], module(v[0]))
    torch.testing.assert_close(network.running.mean[1, 0, 0], module.running_mean)
    torch.testing.assert_close(network.running.variance[1, 0, 0], module.running_var)
    torch.testing.assert_close(network.normalize_for_evaluation(1, v)[0], module.eval()(v[0]))
    assert (network.running.mean[0] == 0).all()


def test_layer_normalization_equals_torch(make_trial):
    network = make_network([make_trial(normalization="layer")])
    v = torch.randn(1, EXAMPLES, 12, dtype=torch.float64) * 3 + 1
    module = torch.nn.LayerNorm(12, elementwise_affine=False, dtype=torch.float64)
    torch.testing.assert_close(network.normalize_by_batch(0, v)[0], module(v[0]))


def test_rms_normalization_equals_torch(make_trial):
    network = make_network([make_trial(normalization="rms")])
    v = torch.randn(1, EXAMPLES, 12, dtype=torch.float64) * 3 + 1
    module = torch.nn.RMSNorm(12, eps=1e-5, elementwise_affine=False, dtype=torch.float64)
    torch.testing.assert_close(network.normalize_by_batch(0, v)[0], module(v[0]))
    torch.testing.assert_close(network.normalize_for_evaluation(0, v)[0], module(v[0]))


def test_probing_leaves_running_statistics_alone(make_trial):
    network = make_network([make_trial(normalization="batch")])
    network.forward(inputs(), network.normalize_by_batch)
    assert (network.running.mean == 0).all()
    assert (network.running.variance == 1).all()


PAIRS = [(a, i) for a in ACTIVATIONS for i in INITIALIZATIONS if i != "looks_linear" or a == "relu"]


@pytest.mark.parametrize(("activation", "initialization"), PAIRS)
def test_critical_gain_keeps_unit_variance(make_trial, initialization, activation):
    fields = {"depth": 6, "width": 300, "activation": activation, "initialization": initialization}
    network = PackedNetwork([make_trial(seed=seed, **fields) for seed in range(8)], 400, CLASSES, dtype=torch.float64)
    stream = []
    x = torch.randn(300, 400, dtype=torch.float64, generator=make_generator(0, "test"))
    network.forward(x, network.normalize_by_batch, stream)
    for state in stream:
        assert state.square().mean().item() == pytest.approx(1, rel=0.1)


@pytest.mark.parametrize(("fan_in", "fan_out"), [(8, 8), (12, 5), (5, 12)])
def test_orthogonal_weights_keep_the_variance(fan_in, fan_out):
    weight = draw_orthogonal(LayerShape(fan_in, fan_out), make_generator(0, "test"))
    gram = weight.T @ weight if fan_in >= fan_out else weight @ weight.T
    scale = 1 if fan_in >= fan_out else fan_out / fan_in
    torch.testing.assert_close(gram, scale * torch.eye(min(fan_in, fan_out), dtype=torch.float64))


def test_a_network_that_looks_linear_is_linear_and_keeps_norms(make_trial):
    fields = {"depth": 8, "width": 2 * INPUTS, "activation": "relu", "initialization": "looks_linear"}
    network = make_network([make_trial(**fields)])
    stream = []
    logits = network.forward(inputs(), network.normalize_by_batch, stream)
    doubled = network.forward(-2 * inputs(), network.normalize_by_batch)
    torch.testing.assert_close(doubled, -2 * logits, rtol=1e-12, atol=1e-12)
    for state in stream:
        torch.testing.assert_close(state[0].norm(dim=1), math.sqrt(2) * inputs().norm(dim=1))


def test_a_network_can_look_linear_with_relu_and_an_even_width_alone(make_trial):
    with pytest.raises(ValueError, match=r"activation: 'tanh' is out of range; use 'relu'"):
        make_trial(initialization="looks_linear", activation="tanh")
    with pytest.raises(ValueError, match="width: 13 is out of range; give an even number"):
        make_trial(initialization="looks_linear", width=13)


def test_gains(make_trial):
    by_name = {gain: make_network([make_trial(gain=gain)]) for gain in ("critical", "he", "lecun", "xavier", 0.5)}
    hidden = {gain: network.parameters[2] for gain, network in by_name.items()}
    torch.testing.assert_close(hidden["critical"], hidden["he"])
    torch.testing.assert_close(hidden["lecun"] * math.sqrt(2), hidden["he"])
    torch.testing.assert_close(hidden["xavier"], hidden["lecun"])
    torch.testing.assert_close(hidden["lecun"] * 0.5, hidden[0.5])
    # The inputs are standardised and not activated, so the first layer's critical gain is 1.
    torch.testing.assert_close(by_name["critical"].parameters[0], by_name["lecun"].parameters[0])
    assert critical_gain("relu") == pytest.approx(math.sqrt(2), abs=1e-12)


def test_weights_do_not_depend_on_the_pack_or_the_precision(make_trial):
    alone = make_network([make_trial(seed=3)])
    packed = make_network([make_trial(seed=1), make_trial(seed=3)])
    single = make_network([make_trial(seed=3)], dtype=torch.float32)
    for one, two, three in zip(alone.parameters, packed.parameters, single.parameters, strict=True):
        assert torch.equal(one[0], two[1])
        assert torch.equal(one[0].float(), three[0])


def test_threads_draw_the_weights_that_one_draws(make_trial):
    trials = [make_trial(depth=4, width=9, seed=seed) for seed in range(20)]

    def draw(trial):
        network = PackedNetwork([trial], 5, 3)
        return tuple(network.stacked[::2])

    for one, other in zip(draw_members(draw, trials, threads=1), draw_members(draw, trials, threads=8), strict=True):
        assert all(map(torch.equal, one, other))


def test_networks_of_two_depths_are_independent_draws(make_trial):
    """Statistics over depths assume it."""
    one, other = (make_network([make_trial(depth=depth)]).parameters[0] for depth in (3, 4))
    assert one.shape == other.shape
    assert not (one == other).any()
