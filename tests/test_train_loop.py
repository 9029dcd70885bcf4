"""The loop against a plain PyTorch twin, and members against themselves in other packs."""

import contextlib
import dataclasses
import math
import random

import pytest
import torch

from study import evaluation
from study import run_log_schema as schema
from study.backpropagation import Backpropagation
from study.device_split import make_device_split
from study.evaluation import evaluate
from study.kernels import make_block_kernels
from study.native_library import describe_library
from study.network import PackedNetwork
from study.optimizers import PackedOptimizer
from study.random_streams import make_generator
from study.train_loop import epoch_order, train_epoch, train_pack
from study.training_step import TrainingStep
from study.trial_config import ACTIVATIONS, CLIPPINGS, NORMALIZATIONS, OPTIMIZERS, PRECISIONS

from tests.reference import normalize, PHI  # isort: skip

VARIANTS = [
    {"normalization": "batch", "activation": "relu", "optimizer": "adam", "learning_rate": 1e-3},
    {"normalization": "layer", "activation": "tanh", "optimizer": "sgd", "learning_rate": 0.1, "momentum": 0.9,
     "clipping": "norm", "schedule": "cosine"},
    {"normalization": "none", "activation": "selu", "optimizer": "sgd", "learning_rate": 0.05, "clipping": "value",
     "clipping_threshold": 0.01, "weight_decay": 1e-3, "layerwise_step_sizes": True},
]  # fmt: skip
IN_BF16 = {**VARIANTS[0], "precision": "bf16"}


def final_bytes(trials, dataset, trial_id):
    """All numbers of one trial over a whole training, except the time it took."""
    rows = []
    for members in train_pack(trials, dataset):
        for member in members:
            if member.trial_id == trial_id:
                metrics = {name: value for name, value in member.metrics.items() if name != schema.EPOCH_SECONDS}
                rows.append((member.epoch, metrics, member.layers, member.diverged))
    return repr(rows)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_member_is_bitwise_the_same_alone_and_in_packs(make_trial, small_dataset, variant, precision):
    trial = make_trial(**{**variant, "width": 100, "depth": 6, "dilution": 0.5, "seed": 7, "precision": precision})
    others = [
        dataclasses.replace(trial, seed=seed, dilution=seed % 3, learning_rate=0.01 * (seed + 1)) for seed in range(15)
    ]
    alone = final_bytes([trial], small_dataset, trial.trial_id)
    assert "nan" not in alone
    for size, place in ((2, 0), (3, 2), (16, 5)):
        pack = others[: size - 1]
        pack.insert(place, trial)
        assert final_bytes(pack, small_dataset, trial.trial_id) == alone


@pytest.mark.parametrize("case", range(30))
def test_a_member_is_bitwise_the_same_at_any_shape(make_trial, small_dataset, case):
    # Kernels are chosen by shape and alignment, so odd shapes are where a member could come to depend on its pack.
    draw = random.Random(case)
    shape = {
        "depth": draw.choice([2, 3, 5]),
        "width": draw.choice([1, 2, 3, 7, 16, 31, 33, 64, 100, 333]),
        "batch_size": draw.choice([2, 3, 7, 16, 31, 50, 100]),
        "test_size": draw.choice([0, 17, 64]),
        "normalization": draw.choice(NORMALIZATIONS),
        "activation": ACTIVATIONS[case % len(ACTIVATIONS)],
        "optimizer": draw.choice(OPTIMIZERS),
        "clipping": draw.choice(CLIPPINGS),
        "probe_size": draw.choice([5, 32]),
        "precision": draw.choice(PRECISIONS),
        "learning_rate": 1e-3,
        "epochs": 1,
    }
    trials = [make_trial(**shape, seed=seed, dilution=seed % 3) for seed in range(draw.choice([2, 3, 5, 8]))]
    trial = draw.choice(trials)
    assert final_bytes(trials, small_dataset, trial.trial_id) == final_bytes([trial], small_dataset, trial.trial_id)


def make_step(trials, dataset, total_steps, device="cpu", compiled=False):
    network = PackedNetwork(trials, 3072, 10, device=device)
    optimizer = PackedOptimizer(trials, network.stacked, total_steps, compiled=compiled)
    kernels = make_block_kernels(trials[0].activation, trials[0].normalization, compiled, device)
    split = make_device_split(dataset, "train", 0, device)
    return network, TrainingStep(network, optimizer, split, kernels, trials[0].batch_size, trials[0].precision)


@pytest.mark.parametrize("variant", [*VARIANTS, IN_BF16])
def test_weights_are_bitwise_the_same_alone_and_in_packs(make_trial, small_dataset, variant):
    trials = [make_trial(**{**variant, "width": 100, "seed": seed, "dilution": seed}) for seed in range(3)]

    def train(chosen):
        network, step = make_step(chosen, small_dataset, total_steps=12)
        train_epoch(step, epoch_order(chosen, 400, 1), probe=lambda steps_done: None)
        return network

    packed = train(trials)
    for member, trial in enumerate(trials):
        alone = train([trial])
        for one, all_members in zip(alone.parameters, packed.parameters, strict=True):
            assert torch.equal(one[0], all_members[member])
        assert torch.equal(alone.running.mean[:, 0], packed.running.mean[:, member])


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("clipping", ["none", "norm"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_steps_written_down_are_those_of_torch(make_trial, small_dataset, optimizer, clipping, precision):
    fields = {"activation": "tanh", "normalization": "batch", "schedule": "cosine", "width": 20, "depth": 5}
    fields |= {"optimizer": optimizer, "clipping": clipping, "clipping_threshold": 1.0, "precision": precision}
    trials = [
        make_trial(**fields, learning_rate=1e-3, weight_decay=0.01, dilution=seed, seed=seed) for seed in range(3)
    ]
    networks = []
    for compiled in (False, True):
        network, step = make_step(trials, small_dataset, total_steps=6, compiled=compiled)
        first = [parameter.clone() for parameter in network.parameters]
        for rows in epoch_order(trials, 400, 1).unbind(1)[:6]:
            step.run(rows)
        assert step.finding or not compiled or precision == "bf16" or describe_library() == "none"
        if precision == "bf16":
            for short, weight in zip(step.gradients.short_weights, network.stacked[::2], strict=True):
                assert torch.equal(short, weight.bfloat16())
        networks.append([*network.parameters, network.running.mean, network.running.variance])
    for start, eager, native in zip(first, *(parameters[:6] for parameters in networks), strict=True):
        assert (native - eager).norm() <= (1e-3 if precision == "fp32" else 0.1) * (eager - start).norm()
    tolerance = 1e-4 if precision == "fp32" else 1e-2
    for eager, native in zip(*(statistics[6:] for statistics in networks), strict=True):
        torch.testing.assert_close(native, eager, rtol=tolerance, atol=tolerance)


def test_a_step_in_bf16_is_near_one_in_fp32_and_not_the_same(make_trial, small_dataset):
    ends = []
    for precision in PRECISIONS:
        trials = [make_trial(activation="tanh", optimizer="sgd", learning_rate=0.1, width=20, precision=precision)]
        network, step = make_step(trials, small_dataset, total_steps=1, compiled=True)
        start = network.parameters[0].clone()
        step.run(epoch_order(trials, 400, 1)[:, 0])
        ends.append(network.parameters[0] - start)
    assert 1e-4 < (ends[1] - ends[0]).norm() / ends[0].norm() < 0.05


class PlainTwin(torch.nn.Module):
    """The network as one would write it for a single trial."""

    def __init__(self, trial, network, member):
        super().__init__()
        first, first_bias, hidden, hidden_bias, last, last_bias = (
            parameter.detach()[member].clone() for parameter in network.parameters
        )
        weights = [first, *hidden, last]
        biases = [first_bias, *hidden_bias, last_bias]
        self.weights = torch.nn.ParameterList(torch.nn.Parameter(weight.clone()) for weight in weights)
        self.biases = torch.nn.ParameterList(torch.nn.Parameter(bias.clone()) for bias in biases)
        self.trial = trial

    def forward(self, x):
        k, phi = self.trial.dilution, PHI[self.trial.activation]
        v = x @ self.weights[0] + self.biases[0]
        for weight, bias in zip(self.weights[1:-1], self.biases[1:-1], strict=True):
            residual = phi(normalize(self.trial.normalization, v)) @ weight + bias
            v = (k * v + residual) / math.sqrt(k**2 + 1)
        return phi(normalize(self.trial.normalization, v)) @ self.weights[-1] + self.biases[-1]


@pytest.mark.parametrize("clipping", ["none", "norm", "value"])
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("normalization", ["none", "batch", "layer"])
def test_steps_equal_a_plain_twin_with_torch_optim(make_trial, normalization, optimizer, clipping):
    momenta = (0.9, 0.0) if optimizer == "sgd" else (0.0, 0.0)
    trials = [
        make_trial(
            normalization=normalization,
            optimizer=optimizer,
            clipping=clipping,
            clipping_threshold=(0.05, 1e3)[seed],
            seed=seed,
            dilution=seed,
            learning_rate=0.01 * (seed + 1),
            weight_decay=0.1 * seed,
            momentum=momenta[seed],
            schedule=("cosine", "step")[seed],
        )
        for seed in range(2)
    ]
    network = PackedNetwork(trials, 20, 4, dtype=torch.float64)
    packed = PackedOptimizer(trials, network.stacked, total_steps=4)
    to_weights = Backpropagation(network, make_block_kernels("relu", normalization, compiled=False), batch_size=16)
    twins = [PlainTwin(trial, network, member) for member, trial in enumerate(trials)]
    kinds = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}
    optimizers = [
        kinds[optimizer](
            twin.parameters(),
            lr=twin.trial.learning_rate,
            weight_decay=twin.trial.weight_decay,
            **({"momentum": twin.trial.momentum} if optimizer == "sgd" else {}),
        )
        for twin in twins
    ]
    for step in range(3):
        generator = make_generator(step, "batch")
        x = torch.randn(2, 16, 20, generator=generator, dtype=torch.float64)
        labels = torch.randint(0, 4, (2, 16), generator=generator)
        packed.step(to_weights.run(lambda some, room, x=x: room.copy_(x[some]), labels))
        for member, (twin, single) in enumerate(zip(twins, optimizers, strict=True)):
            single.zero_grad()
            torch.nn.functional.cross_entropy(twin(x[member]), labels[member]).backward()
            if clipping == "norm":
                norm = torch.nn.utils.clip_grad_norm_(
                    twin.parameters(), twin.trial.clipping_threshold, error_if_nonfinite=True
                )
                assert (norm > twin.trial.clipping_threshold) == (member == 0)
            elif clipping == "value":
                torch.nn.utils.clip_grad_value_(twin.parameters(), twin.trial.clipping_threshold)
            progress = step / 4
            factor = (0.5 * (1 + math.cos(math.pi * progress)), 1.0 if progress < 0.5 else 0.1)[member]
            single.param_groups[0]["lr"] = twin.trial.learning_rate * factor
            single.step()
            torch.testing.assert_close(network.parameters[0][member], twin.weights[0].data, rtol=1e-4, atol=1e-7)
            for layer in range(3):
                expected = twin.weights[layer + 1].data
                torch.testing.assert_close(network.parameters[2][member, layer], expected, rtol=1e-4, atol=1e-7)
            torch.testing.assert_close(network.parameters[5][member], twin.biases[-1].data, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("clipping", [{}, {"clipping": "value", "clipping_threshold": 1e-4}])
def test_layerwise_steps_change_every_layer_equally(make_trial, small_dataset, clipping):
    trials = [
        make_trial(optimizer="sgd", layerwise_step_sizes=True, learning_rate=rate, depth=6, **clipping)
        for rate in (0.01, 0.03)
    ]
    network, step = make_step(trials, small_dataset, total_steps=1)
    before = [parameter.clone() for parameter in network.parameters]
    step.run(epoch_order(trials, 400, 1)[:, 0])
    for member, rate in enumerate((0.01, 0.03)):
        for place in (0, 2, 4):
            old, new = before[place][member], network.parameters[place][member]
            relative = (new - old).norm(dim=(-2, -1)) / old.norm(dim=(-2, -1))
            torch.testing.assert_close(relative, torch.full_like(relative, rate), rtol=1e-4, atol=0)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_training_learns(make_trial, small_dataset, precision):
    trial = make_trial(normalization="batch", epochs=25, width=40, learning_rate=3e-3, precision=precision)
    *_, last = train_pack([trial], small_dataset)
    assert last[0].metrics[schema.TRAIN_ERROR] < 0.2


def test_an_epoch_without_a_whole_batch_is_refused(make_trial, small_dataset):
    with pytest.raises(ValueError, match=r"^batch_size: 32 is more than the 20 training images$"):
        next(train_pack([make_trial(batch_size=32, train_size=20)], small_dataset))


def test_a_diverged_member_leaves_the_others_alone(make_trial, small_dataset):
    good = make_trial(optimizer="sgd", learning_rate=0.01, epochs=3)
    bad = dataclasses.replace(good, learning_rate=1e30)
    alone = final_bytes([good], small_dataset, good.trial_id)
    assert final_bytes([bad, good], small_dataset, good.trial_id) == alone
    epochs = list(train_pack([bad, good], small_dataset))
    assert [[member.diverged for member in members] for members in epochs] == [
        [False, False],
        [True, False],
        [False],
        [False],
    ]


@pytest.mark.parametrize("variant", [*VARIANTS, IN_BF16])
def test_members_that_diverge_are_taken_out_and_change_nothing(make_trial, small_dataset, variant, monkeypatch):
    sizes = []
    run = TrainingStep.run
    monkeypatch.setattr(TrainingStep, "run", lambda self, rows: (sizes.append(len(rows)), run(self, rows))[1])
    fields = {**variant, "clipping": "none", "layerwise_step_sizes": False, "epochs": 3}
    good = [make_trial(**fields, seed=seed, dilution=seed) for seed in range(3)]
    bad = [dataclasses.replace(good[0], learning_rate=1e38, seed=seed) for seed in (7, 8)]
    pack = [bad[0], good[0], good[1], bad[1], good[2]]
    for trial in good:
        assert final_bytes(pack, small_dataset, trial.trial_id) == final_bytes([trial], small_dataset, trial.trial_id)
    assert sizes[:36] == [5] * 12 + [3] * 24


def test_layerwise_scales_stay_with_their_members(make_trial):
    fields = {"optimizer": "sgd", "momentum": 0.9, "layerwise_step_sizes": True, "clipping": "norm"}
    trials = [make_trial(**fields, clipping_threshold=1e-3 * 10**seed, seed=seed) for seed in range(3)]

    def train(chosen, kept):
        network = PackedNetwork(chosen, 20, 4, dtype=torch.float64)
        optimizer = PackedOptimizer(chosen, network.stacked, total_steps=4)
        for moment in range(4):
            if moment == 2 and kept is not None:
                network.keep(torch.tensor(kept))
                optimizer.keep(torch.tensor(kept), [chosen[member] for member in kept], network.stacked)
            to_weights = Backpropagation(network, make_block_kernels("relu", "none", compiled=False), batch_size=16)
            x = torch.randn(16, 20, dtype=torch.float64, generator=make_generator(moment, "test"))
            labels = torch.arange(16).expand(network.member_count, -1) % 4
            optimizer.step(to_weights.run(lambda some, room, x=x: room.copy_(x), labels))
        return network.parameters

    for member, parameter in zip((0, 2), zip(*(p for p in train(trials, [0, 2])), strict=True), strict=True):
        alone = train([trials[member]], None)
        for one, other in zip(parameter, alone, strict=True):
            assert torch.equal(one, other[0])


def test_a_pack_ends_when_all_have_diverged(make_trial, small_dataset):
    epochs = list(train_pack([make_trial(optimizer="sgd", learning_rate=1e30, epochs=9)], small_dataset))
    assert len(epochs) == 2
    assert epochs[-1][0].diverged


def test_unsettled_running_statistics_are_no_divergence(make_trial, small_dataset):
    # With a large gain, evaluation overflows until batch normalization's running statistics have settled.
    trial = make_trial(normalization="batch", gain=1e6, depth=9, epochs=40, batch_size=100, learning_rate=1e-2)
    epochs = [members[0] for members in train_pack([trial], small_dataset)]
    assert not math.isfinite(epochs[0].metrics[schema.TEST_LOSS])
    assert math.isnan(epochs[0].metrics[schema.TEST_ERROR])
    assert len(epochs) == 41
    assert not epochs[-1].diverged
    assert math.isfinite(epochs[-1].metrics[schema.TEST_LOSS])


def test_losses_that_are_not_finite_in_the_end_are_a_divergence(make_trial, small_dataset):
    # One step per epoch: its parameters are large but finite, and no second step shows what they do.
    trial = make_trial(optimizer="sgd", learning_rate=1e30, epochs=1, batch_size=400)
    *_, (last,) = train_pack([trial], small_dataset)
    assert last.diverged


def test_every_epoch_has_every_metric_and_layer(make_trial, small_dataset):
    trial = make_trial(epochs=2)
    for epoch, (member,) in enumerate(train_pack([trial], small_dataset)):
        expected = set(schema.EPOCH_METRICS)
        if epoch == 0:  # before training there is no step to describe
            expected -= {schema.GRADIENT_NORM, schema.LEARNING_RATE}
        assert set(member.metrics) == expected
        assert all(math.isfinite(value) for value in member.metrics.values())
        steps = sorted({row[0] for row in member.layers})
        assert steps == [[0], [1, 3, 10, 12], [24]][epoch]
        assert [row[2] for row in member.layers if row[0] == steps[-1]] == list(range(trial.depth))
        assert all(len(row) == len(schema.LAYER_COLUMNS) for row in member.layers)
        assert member.layers[-1][1] == epoch


def test_zero_epochs_measure_the_untrained_network(make_trial, small_dataset):
    assert [members[0].epoch for members in train_pack([make_trial(epochs=0)], small_dataset)] == [0]


def test_evaluation_counts_every_image_once(make_trial, small_dataset):
    trial = make_trial(depth=2)
    network = PackedNetwork([trial], 3072, 10)
    split = make_device_split(small_dataset, "test", 77, "cpu")
    error, loss = evaluate(network, split, make_block_kernels("relu", "none", compiled=False))
    logits = network.forward(split.standardised(slice(0, None)), network.normalize_for_evaluation)[0]
    assert error.item() == pytest.approx((logits.argmax(1) != split.labels).double().mean().item())
    assert loss.item() == pytest.approx(torch.nn.functional.cross_entropy(logits, split.labels).item(), rel=1e-5)


@pytest.mark.parametrize("normalization", ["none", "batch", "layer"])
def test_evaluation_in_several_batches_is_that_of_the_plain_network(
    make_trial, small_dataset, monkeypatch, normalization
):
    monkeypatch.setattr(evaluation, "EVALUATION_BATCH", 32)
    trials = [make_trial(depth=6, normalization=normalization, dilution=seed, seed=seed) for seed in range(3)]
    network = PackedNetwork(trials, 3072, 10)
    network.running.mean.normal_(generator=make_generator(0, "test"))
    split = make_device_split(small_dataset, "test", 77, "cpu")
    logits = network.forward(split.standardised(slice(0, None)), network.normalize_for_evaluation)
    for compiled in (False, True):
        error, loss = evaluate(network, split, make_block_kernels("relu", normalization, compiled))
        for member, plain in enumerate(logits):
            assert error[member].item() == pytest.approx((plain.argmax(1) != split.labels).double().mean().item())
            plain_loss = torch.nn.functional.cross_entropy(plain, split.labels).item()
            assert loss[member].item() == pytest.approx(plain_loss, rel=1e-5)


@pytest.mark.parametrize(("members", "width", "expected"), [(2, 8, 10_000), (64, 128, 4096), (256, 4096, 480)])
def test_a_gpu_evaluates_as_many_images_at_once_as_its_memory_takes(members, width, expected):
    assert evaluation.evaluation_batch("cuda", members, width) == expected
    assert evaluation.evaluation_batch("cpu", members, width) == 480


def test_each_epoch_visits_images_once_in_an_order_of_the_seed(make_trial):
    trials = [make_trial(seed=seed) for seed in range(2)]
    order = epoch_order(trials, 100, 1)
    assert order.shape == (2, 3, 32)
    assert all(len(set(member.flatten().tolist())) == 96 for member in order)
    assert not torch.equal(order[0], order[1])
    assert not torch.equal(order, epoch_order(trials, 100, 2))


@pytest.mark.gpu
def test_gpu_agrees_with_cpu_at_the_start(make_trial, small_dataset):
    trial = make_trial(normalization="batch")
    (cpu,), (gpu,) = (next(iter(train_pack([trial], small_dataset, device))) for device in ("cpu", "cuda"))
    for name in (schema.TRAIN_LOSS, schema.LOG10_GSC_TO_LOGITS):
        assert gpu.metrics[name] == pytest.approx(cpu.metrics[name], rel=1e-3)


def test_a_step_that_cannot_be_captured_goes_on_as_it_is(make_trial, small_dataset, monkeypatch):
    @contextlib.contextmanager
    def refuse(_):
        raise RuntimeError("operation not permitted when stream is capturing\nmore lines")
        yield

    for name, stand_in in (("CUDAGraph", object), ("graph", refuse), ("synchronize", lambda: None)):
        monkeypatch.setattr(torch.cuda, name, stand_in)
    trials = [make_trial(seed=seed) for seed in range(2)]
    rows = epoch_order(trials, 400, 1)
    weights = []
    for steps_before_capture in (2, -1):
        network, step = make_step(trials, small_dataset, total_steps=12)
        step.steps_until_capture = steps_before_capture
        for number in range(6):
            refused = steps_before_capture == number
            with pytest.warns(match=r"not captured .* \(.* is capturing\)$") if refused else contextlib.nullcontext():
                step.run(rows[:, number])
        weights.append(network.parameters)
    for refused, plain in zip(*weights, strict=True):
        assert torch.equal(refused, plain)


def test_memory_that_runs_out_while_a_step_is_captured_is_told(make_trial, small_dataset, monkeypatch):
    @contextlib.contextmanager
    def run_out(_):
        raise torch.OutOfMemoryError("full")
        yield

    monkeypatch.setattr(torch.cuda, "CUDAGraph", object)
    monkeypatch.setattr(torch.cuda, "graph", run_out)
    _, step = make_step([make_trial()], small_dataset, total_steps=12)
    step.steps_until_capture = 0
    with pytest.raises(torch.OutOfMemoryError):
        step.run(epoch_order([make_trial()], 400, 1)[:, 0])


@pytest.mark.gpu
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("clipping", ["none", "norm", "value"])
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_captured_step_is_the_step(make_trial, small_dataset, optimizer, compiled, clipping, precision):
    fields = {"normalization": "batch", "optimizer": optimizer, "precision": precision}
    fields |= {"clipping": clipping, "clipping_threshold": 0.1}
    trials = [make_trial(**fields, seed=seed, dilution=seed) for seed in range(3)]
    rows = epoch_order(trials, 400, 1).to("cuda")
    weights = []
    for steps_before_capture in (3, 1000):
        network, step = make_step(trials, small_dataset, total_steps=12, device="cuda", compiled=compiled)
        step.steps_until_capture = steps_before_capture
        for number in range(10):
            step.run(rows[:, number])
        assert (step.graph is not None) == (steps_before_capture == 3)
        weights.append([parameter.clone() for parameter in network.parameters])
    for captured, plain in zip(*weights, strict=True):
        torch.testing.assert_close(captured, plain, rtol=1e-5, atol=1e-6)


@pytest.mark.gpu
def test_a_member_that_diverges_on_a_gpu_leaves_the_others(make_trial, small_dataset):
    trials = [make_trial(optimizer="sgd", learning_rate=rate, epochs=3) for rate in (1e-2, 1e30, 2e-2)]
    *_, together = train_pack(trials, small_dataset, "cuda")
    assert [member.trial_id for member in together] == [trials[0].trial_id, trials[2].trial_id]
    for member, trial in zip(together, (trials[0], trials[2]), strict=True):
        *_, (alone,) = train_pack([trial], small_dataset, "cuda")
        assert member.metrics[schema.TRAIN_LOSS] == pytest.approx(alone.metrics[schema.TRAIN_LOSS], rel=1e-2)


@pytest.mark.gpu
def test_training_on_a_gpu_goes_on_where_it_stopped(make_trial, small_dataset):
    trial = make_trial(normalization="batch", epochs=3)
    whole = []
    for epoch, (member,) in enumerate(train_pack([trial], small_dataset, "cuda")):
        whole.append(member.metrics[schema.TRAIN_LOSS])
        if epoch == 1:
            state = member.take_state()
    rest = train_pack([trial], small_dataset, "cuda", resume_from={trial.trial_id: state})
    assert [member.metrics[schema.TRAIN_LOSS] for (member,) in rest] == pytest.approx(whole[2:], rel=1e-4)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_pack_on_a_gpu_learns_what_its_members_learn_alone(make_trial, small_dataset, precision):
    trials = [make_trial(normalization="batch", epochs=6, precision=precision, seed=seed) for seed in range(4)]
    *_, together = train_pack(trials, small_dataset, "cuda")
    *_, (alone,) = train_pack(trials[2:3], small_dataset, "cuda")
    name = schema.TRAIN_LOSS
    assert together[2].metrics[name] == pytest.approx(alone.metrics[name], rel=0.1)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_the_shallowest_network_trains(make_trial, small_dataset, optimizer):
    trials = [make_trial(depth=2, optimizer=optimizer, learning_rate=0.01, dilution=k) for k in (0, 1)]
    first, *_, last = train_pack(trials, small_dataset)
    assert last[0].metrics[schema.TRAIN_LOSS] < first[0].metrics[schema.TRAIN_LOSS]
    assert math.isnan(last[0].metrics[schema.EXPLOSION_RATE])
