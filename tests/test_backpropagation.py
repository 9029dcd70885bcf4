"""Hand-written gradients against autograd's, in float64, with compiled kernels and with the same run step by step."""

import pytest
import torch

from study import backpropagation, evaluation, member_products
from study.backpropagation import Backpropagation
from study.kernels import compile_kernel, make_block_kernels
from study.network import PackedNetwork
from study.normalizations import EXAMPLES, NORMALIZATION_TABLE, UNITS
from study.optimizers import PackedOptimizer
from study.random_streams import make_generator
from study.trial_config import ACTIVATIONS, NORMALIZATIONS, PRECISIONS

from tests.marks import needs_compiler  # isort: skip
from tests.reference import autograd_gradients  # isort: skip
from tests.test_train_loop import final_bytes  # isort: skip

INPUTS, CLASSES, BATCH = 20, 4, 16
ALL = [(activation, normalization) for activation in ACTIVATIONS for normalization in NORMALIZATIONS]


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
    ours = to_weights.run(lambda some, room: room.copy_(x[some]), labels)
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


@pytest.mark.parametrize("precision", PRECISIONS)
def test_members_are_the_same_where_products_are_those_of_torch(make_trial, small_dataset, monkeypatch, precision):
    for module in (backpropagation, evaluation, member_products):  # as for bf16 where a processor has matrix units
        monkeypatch.setattr(module, "multiplies_natively", lambda device_type, dtype: False)
    fields = {"normalization": "batch", "width": 100, "depth": 4, "epochs": 1, "train_size": 100, "test_size": 20}
    trials = [make_trial(**fields, precision=precision, seed=seed, dilution=seed % 2) for seed in range(3)]
    alone = final_bytes(trials[1:2], small_dataset, trials[1].trial_id)
    assert final_bytes(trials, small_dataset, trials[1].trial_id) == alone


@needs_compiler
def test_a_relu_that_is_off_stops_an_infinite_gradient():
    for compiled in (False, True):
        shape, one = (1, 2, 3), torch.ones(1, 1, 1)
        n, g_a = torch.full(shape, -2.0), torch.full(shape, float("inf"))
        g, a, bias = (torch.full(size, 7.0) for size in (shape, shape, (1, 2, 1)))
        make_block_kernels("relu", "none", compiled).pull_back(g_a, n, one, one, None, one, one, g, None, a, bias)
        assert g.eq(0).all(), compiled


@needs_compiler
@pytest.mark.parametrize("has_skip", [False, True])
@pytest.mark.parametrize("short", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("activation", "normalization"), ALL)
def test_compiled_kernels_are_those_of_torch_where_rows_end_within_a_vector(activation, normalization, short, has_skip):
    units, examples = 11, 37
    axis, draw = NORMALIZATION_TABLE[normalization].axis, make_generator(0, "test")

    def normal(*shape, dtype=torch.float32):
        return torch.randn(*shape, generator=draw).to(dtype)

    state, moment = (2, units, examples), {None: (2, 1, 1), EXAMPLES: (2, 1, units), UNITS: (2, examples, 1)}[axis]
    skip, residual, scale = (torch.tensor(values).view(2, 1, 1) for values in ((0.0, 0.6), (1.0, 0.8), (1.0, 0.5)))
    v, g_next = (normal(*state) if has_skip else None for _ in range(2))
    product, g_a, bias = normal(*state, dtype=short), normal(*state, dtype=short), normal(2, units, 1)
    mean, variance = normal(*moment), normal(*moment).square()
    results = []
    for compiled in (False, True):
        kernels = make_block_kernels(activation, normalization, compiled)
        assert kernels.are_native == compiled
        n, a, a_again, a_evaluating = torch.zeros(state), *torch.zeros(3, *state, dtype=short)
        v_next = torch.zeros(state) if has_skip else None
        g = torch.zeros(state) if has_skip or short == torch.float32 else None
        g_short = torch.zeros(state, dtype=short) if has_skip or short == torch.bfloat16 else None
        to_bias, new_mean, new_variance = torch.zeros_like(bias), torch.zeros_like(mean), torch.zeros_like(mean)
        kernels.advance(v, product, bias, skip, residual, scale, v_next, n, a, new_mean, new_variance)
        kernels.pull_back(g_a, n, new_variance, scale, g_next, skip, residual, g, g_short, a_again, to_bias)
        kernels.advance_evaluating(v, product, bias, skip, residual, scale, mean, variance, None, a_evaluating)
        moments = [new_mean, new_variance] if axis == EXAMPLES else []
        results.append([v_next, n, g, to_bias, *moments, a, a_again, a_evaluating, g_short])
    for expected, measured in zip(*results, strict=True):
        assert (measured is None) == (expected is None)
        if expected is not None:
            tolerance = 2e-5 if expected.dtype == torch.float32 else 2**-7
            torch.testing.assert_close(measured, expected, rtol=tolerance, atol=tolerance)


@needs_compiler
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_the_gradient_of_the_loss_is_that_of_autograd(dtype):
    generator = make_generator(0, "test")
    product = (30 * torch.randn(3, CLASSES, 21, generator=generator, dtype=torch.float64)).to(dtype)
    state = torch.float64 if dtype == torch.float64 else torch.float32
    bias = torch.randn(3, CLASSES, generator=generator, dtype=torch.float64).to(state)
    labels = torch.randint(0, CLASSES, (3, 21), generator=generator)
    logits = (product.to(state) + bias[:, :, None]).double().requires_grad_()
    sum(torch.nn.functional.cross_entropy(z.T, y) for z, y in zip(logits, labels, strict=True)).backward()
    tolerance = {torch.float64: 1e-15, torch.float32: 1e-7, torch.bfloat16: 2**-9}[dtype]
    for compiled in (False, True):
        g, to_bias = torch.full_like(product, 7), torch.full_like(bias, 7)
        make_block_kernels("relu", "none", compiled).pull_back_loss(product, bias, labels, g, to_bias)
        torch.testing.assert_close(g.double(), logits.grad, rtol=tolerance, atol=tolerance)
        torch.testing.assert_close(to_bias.double(), logits.grad.sum(2), rtol=0, atol=min(tolerance * 20, 1e-6))


@needs_compiler
def test_logits_that_are_not_finite_spoil_their_own_example_alone():
    for bad in (float("nan"), float("inf")):
        product = torch.zeros(2, CLASSES, 5)
        product[1, 2, 3] = bad
        for compiled in (False, True):
            g, to_bias = torch.zeros_like(product), torch.zeros(2, CLASSES)
            labels = torch.zeros(2, 5, dtype=torch.int64)
            kernels = make_block_kernels("relu", "none", compiled)
            kernels.pull_back_loss(product, torch.zeros(2, CLASSES), labels, g, to_bias)
            assert g.isnan().all(dim=1).nonzero().tolist() == [[1, 3]], compiled
            assert g.isnan().sum() == CLASSES


@needs_compiler
def test_compiled_averages_are_those_of_torch():
    batch = torch.randn(2, 3, 1, 37, generator=make_generator(0, "test"))
    native, eager = (torch.full_like(batch, 0.5) for _ in range(2))
    for compiled, running in ((True, native), (False, eager)):
        make_block_kernels("relu", "none", compiled).average(running, batch, 0.1, 1.25)
    torch.testing.assert_close(native, eager, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(eager, 0.9 * 0.5 + 0.1 * 1.25 * batch)


@needs_compiler
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("short", [None, torch.bfloat16])
def test_a_compiled_step_is_that_of_torch(make_trial, optimizer, short):
    trials = [
        make_trial(
            optimizer=optimizer,
            learning_rate=1e-3 * (seed + 1),
            weight_decay=0.3 * seed,
            momentum=0.4 * seed if optimizer == "sgd" else 0.0,
            seed=seed,
        )
        for seed in range(3)
    ]
    results = []
    for compiled in (False, True):
        network = PackedNetwork(trials, INPUTS, CLASSES)
        generator = make_generator(0, "test")
        step = PackedOptimizer(trials, network.stacked, total_steps=3, compiled=compiled)
        copies = [weight.to(short) for weight in network.stacked[::2]] if short else None
        for _ in range(3):
            gradients = [0.01 * torch.randn(stacked.shape, generator=generator) for stacked in network.stacked]
            step.prepare_step()
            step.apply([g.to(short) if short and place % 2 == 0 else g for place, g in enumerate(gradients)], copies)
        for copy, weight in zip(copies or [], network.stacked[::2], strict=bool(copies)):
            assert torch.equal(copy, weight.to(short))
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
    with pytest.warns(UserWarning, match="kernels are not compiled and run slower"):
        double(x, out)
    assert (out == 2).all()
    double(x, out)  # warns no more
