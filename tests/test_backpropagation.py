"""Hand-written gradients against autograd's, in float64, with compiled kernels and with the same run step by step."""

import pytest
import torch

from study import native_library
from study.backpropagation import Backpropagation
from study.kernels import compile_kernel, make_block_kernels
from study.network import PackedNetwork
from study.optimizers import PackedOptimizer
from study.random_streams import make_generator
from study.trial_config import ACTIVATIONS, NORMALIZATIONS, PRECISIONS

from tests.reference import autograd_gradients  # isort: skip
from tests.test_train_loop import final_bytes  # isort: skip

INPUTS, CLASSES, BATCH = 20, 4, 16
ALL = [(activation, normalization) for activation in ACTIVATIONS for normalization in NORMALIZATIONS]
needs_compiler = pytest.mark.skipif(native_library.describe_library() == "none", reason="needs a C++ compiler")


def check_gradients(make_trial, activation, normalization, compiled, depth=5):
    trials = [
        make_trial(activation=activation, normalization=normalization, depth=depth, dilution=k, seed=seed)
        for seed, k in enumerate((0, 1, 0.5))
    ]
    network = PackedNetwork(trials, INPUTS, CLASSES, dtype=torch.float64)
    generator = make_generator(0, "test")
    for tensor in network.stacked[1::2]:
        tensor.copy_(torch.randn(tensor.shape, generator=generator, dtype=torch.float64))
    to_weights = Backpropagation(network, make_block_kernels(activation, normalization, compiled), BATCH)
    x = torch.randn(3, BATCH, INPUTS, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, CLASSES, (3, BATCH), generator=generator)
    to_weights.x.copy_(x)
    ours = to_weights.run(labels)
    oracle = autograd_gradients(network, trials, x, labels)
    for place, theirs in enumerate(oracle):
        member_first = ours[place].transpose(0, 1)
        if theirs is None:
            assert member_first.numel() == 0
            continue
        member_first = member_first if place in (2, 3) else member_first[:, 0]
        for member in range(len(trials)):
            # Batch normalization takes a bias's gradient away: what is left is rounding of the weights' gradients.
            largest = max(float(oracle[place - place % 2][member].abs().max()), float(theirs[member].abs().max()))
            torch.testing.assert_close(member_first[member] / largest, theirs[member] / largest, rtol=0, atol=1e-10)


@pytest.mark.parametrize("depth", [2, 3, 5])
@pytest.mark.parametrize(("activation", "normalization"), ALL)
def test_gradients_are_those_of_autograd(make_trial, activation, normalization, depth):
    check_gradients(make_trial, activation, normalization, compiled=False, depth=depth)


@needs_compiler
@pytest.mark.parametrize("depth", [2, 3, 5])
@pytest.mark.parametrize(("activation", "normalization"), ALL)
def test_compiled_gradients_are_those_of_autograd(make_trial, activation, normalization, depth):
    check_gradients(make_trial, activation, normalization, compiled=True, depth=depth)


@needs_compiler
@pytest.mark.parametrize(("activation", "normalization"), ALL)
def test_a_compiled_member_is_bitwise_the_same_in_every_pack(make_trial, small_dataset, activation, normalization):
    for precision in PRECISIONS:
        fields = {"activation": activation, "normalization": normalization, "width": 100, "depth": 4, "epochs": 1}
        fields |= {"train_size": 100, "test_size": 20}
        trials = [make_trial(**fields, precision=precision, seed=seed, dilution=seed % 3) for seed in range(16)]
        trial = trials[1]
        alone = final_bytes([trial], small_dataset, trial.trial_id)
        for size in (2, 3, 16):
            assert final_bytes(trials[:size], small_dataset, trial.trial_id) == alone, (precision, size)


@needs_compiler
def test_a_relu_that_is_off_stops_an_infinite_gradient():
    for compiled in (False, True):
        shape, one = (1, 2, 3), torch.ones(1, 1, 1)
        n, g_a = torch.full(shape, -2.0), torch.full(shape, float("inf"))
        g, a, bias = (torch.full(size, 7.0) for size in (shape, shape, (1, 2, 1)))
        make_block_kernels("relu", "none", compiled).pull_back(g_a, n, one, one, None, one, one, g, None, a, bias)
        assert g.eq(0).all(), compiled


@needs_compiler
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_compiled_step_is_that_of_torch(make_trial, optimizer):
    trial = make_trial(optimizer=optimizer, learning_rate=1e-3, weight_decay=0.01)
    results = []
    for compiled in (False, True):
        network = PackedNetwork([trial], INPUTS, CLASSES)
        generator = make_generator(0, "test")
        step = PackedOptimizer([trial], network.stacked, total_steps=3, compiled=compiled)
        for _ in range(3):
            step.step([0.01 * torch.randn(stacked.shape, generator=generator) for stacked in network.stacked])
        results.append([*network.stacked, *(moment for moments in step.moments for moment in moments)])
    for eager, native in zip(*results, strict=True):
        torch.testing.assert_close(native, eager, rtol=1e-6, atol=1e-7)


def double_into(x, out):
    out.copy_(2 * x)


def test_where_torch_cannot_compile_kernels_run_step_by_step(monkeypatch):
    def refuse(kernel, **options):
        def fail(*arguments):
            raise torch._dynamo.exc.TorchDynamoException("no compiler")

        return fail

    monkeypatch.setattr(torch, "compile", refuse)
    double = compile_kernel(double_into)
    x, out = torch.ones(3), torch.zeros(3)
    with pytest.warns(UserWarning, match="not compiled and run two to four times slower"):
        double(x, out)
    assert (out == 2).all()
    double(x, out)  # warns no more
