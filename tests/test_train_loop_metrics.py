"""Every number that the loop reports, against a training written out plainly for one trial."""

import math

import numpy as np
import pytest
import torch

from study import run_log_schema as schema
from study.network import PackedNetwork
from study.train_loop import epoch_order, train_pack
from study.work import training_flops, weight_count
from tests.reference import PHI, example_losses, explicit_gsc, from_stream, member_weights, normalize, plain_stream

TRAIN_SIZE, TEST_SIZE = 96, 40


def standardised(images, dataset):
    pixels = torch.from_numpy(images.astype(np.float64)).view(len(images), 3, -1) / 255
    mean, std = (torch.tensor(values).view(1, 3, 1) for values in (dataset.mean, dataset.std))
    return ((pixels - mean) / std).flatten(1)


class PlainTraining:
    """One trial in float64, one layer and one formula at a time, with running statistics of its own."""

    def __init__(self, trial, dataset):
        self.trial = trial
        layers = member_weights(PackedNetwork([trial], 3072, 10, dtype=torch.float64), 0)
        self.layers = [(weight.requires_grad_(), bias.requires_grad_()) for weight, bias in layers]
        self.parameters = [tensor for layer in self.layers for tensor in layer]
        kinds = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}
        self.optimizer = kinds[trial.optimizer](self.parameters, lr=trial.learning_rate)
        self.running = [[torch.zeros(trial.width), torch.ones(trial.width)] for _ in range(trial.depth - 1)]
        self.x = standardised(dataset.train_images[:TRAIN_SIZE], dataset)
        self.y = torch.from_numpy(dataset.train_labels[:TRAIN_SIZE])
        self.test_x = standardised(dataset.test_images[:TEST_SIZE], dataset)
        self.test_y = torch.from_numpy(dataset.test_labels[:TEST_SIZE])
        self.total_steps, self.steps = trial.epochs * (TRAIN_SIZE // trial.batch_size), 0

    def forward(self, x, training):
        k = self.trial.dilution
        v = x @ self.layers[0][0] + self.layers[0][1]
        for number, (weight, bias) in enumerate(self.layers[1:]):
            output = PHI[self.trial.activation](self.normalize(number, v, training)) @ weight + bias
            v = (k * v + output) / math.sqrt(k * k + 1) if number < self.trial.depth - 2 else output
        return v

    def normalize(self, number, v, training):
        if self.trial.normalization != "batch":
            return normalize(self.trial.normalization, v)
        if training:
            for place, statistic in enumerate((v.mean(0), v.var(0))):
                self.running[number][place] = 0.9 * self.running[number][place] + 0.1 * statistic.detach()
            return normalize("batch", v)
        mean, variance = self.running[number]
        return (v - mean) / (variance + 1e-5).sqrt()

    def train_epoch(self, epoch):
        for rows in epoch_order([self.trial], TRAIN_SIZE, epoch)[0]:
            self.rate = self.trial.learning_rate * 0.5 * (1 + math.cos(math.pi * self.steps / self.total_steps))
            loss = example_losses(self.forward(self.x[rows], training=True), self.y[rows]).mean()
            self.optimizer.zero_grad()
            loss.backward()
            self.norm = math.sqrt(sum(float(tensor.grad.square().sum()) for tensor in self.parameters))
            torch.nn.utils.clip_grad_norm_(self.parameters, self.trial.clipping_threshold)
            self.optimizer.param_groups[0]["lr"] = self.rate
            self.optimizer.step()
            self.steps += 1

    def evaluate(self, x, y):
        logits = self.forward(x, training=False).detach()
        return (logits.argmax(1) != y).double().mean().item(), example_losses(logits, y).mean().item()


@pytest.mark.parametrize("normalization", ["batch", "layer"])
def test_every_metric_of_every_epoch(make_trial, small_dataset, normalization):
    trial = make_trial(
        normalization=normalization, activation="tanh", dilution=0.5, depth=4, width=9, epochs=3, train_size=TRAIN_SIZE,
        test_size=TEST_SIZE, optimizer="sgd", learning_rate=0.05, schedule="cosine", clipping="norm",
        clipping_threshold=0.5, probe_size=20, probe_vectors=10,
    )  # fmt: skip
    plain = PlainTraining(trial, small_dataset)
    for (member,) in train_pack([trial], small_dataset):
        if member.epoch > 0:
            plain.train_epoch(member.epoch)
            assert member.metrics[schema.LEARNING_RATE] == pytest.approx(plain.rate, rel=1e-12)
            assert member.metrics[schema.GRADIENT_NORM] == pytest.approx(plain.norm, rel=1e-3)
            assert plain.norm > trial.clipping_threshold  # else this could not tell before from after clipping
        for names, images in (
            ((schema.TRAIN_ERROR, schema.TRAIN_LOSS), (plain.x, plain.y)),
            ((schema.TEST_ERROR, schema.TEST_LOSS), (plain.test_x, plain.test_y)),
        ):
            error, loss = plain.evaluate(*images)
            assert member.metrics[names[0]] == pytest.approx(error, abs=1e-9)
            assert member.metrics[names[1]] == pytest.approx(loss, rel=1e-4)
        check_probe(trial, plain, member)
    assert member.epoch == 3


def check_probe(trial, plain, member):
    """Hold the rows of the epoch's last probe, layer by layer, and its metrics against definitions written out."""
    x, y = plain.x[:20], plain.y[:20]
    weights = [(weight.detach(), bias.detach()) for weight, bias in plain.layers]
    stream, _ = plain_stream(trial, weights, x)
    rows = [dict(zip(schema.LAYER_COLUMNS, row, strict=True)) for row in member.layers]
    rows = [row for row in rows if row["step"] == rows[-1]["step"]]
    assert [(row["layer"], row["epoch"]) for row in rows] == [(layer, member.epoch) for layer in range(trial.depth)]
    for row, state in zip(rows, [x, *stream], strict=True):
        gsc = explicit_gsc(state, lambda v, layer=row["layer"]: from_stream(trial, weights, layer, v))
        is_exact = trial.normalization == "layer"
        assert row["standard_error"] == 0 if is_exact else 0 < row["standard_error"] < 0.1
        assert row["log10_gsc"] == pytest.approx(math.log10(gsc), abs=1e-3 + 4 * row["standard_error"])
    domain = [describe_domain(trial, v) for v in stream]
    for name in domain[0]:
        column = name.removeprefix("domain/")
        expected = [by_name[name] for by_name in domain]
        assert rows[0][column] is None
        assert [row[column] for row in rows[1:]] == pytest.approx(expected, rel=2e-3)
        assert member.metrics[name] == pytest.approx(np.mean(expected), rel=1e-3)
    first, last = rows[1]["log10_gsc"], rows[-1]["log10_gsc"]
    assert member.metrics[schema.EXPLOSION_RATE] == pytest.approx(10 ** ((first - last) / (trial.depth - 2)), rel=1e-6)
    assert member.metrics[schema.LOG10_GSC_TO_LOGITS] == rows[0]["log10_gsc"]
    if trial.normalization == "layer":
        to_loss = explicit_gsc(x, lambda inputs: example_losses(plain_stream(trial, weights, inputs)[1], y))
        assert member.metrics[schema.LOG10_GSC_TO_LOSS] == pytest.approx(math.log10(to_loss), abs=1e-3)


def describe_domain(trial, v):
    n = normalize(trial.normalization, v)
    activated = PHI[trial.activation](n)
    total = (activated - activated.mean(0)).square().sum().item()
    left = sum(np.polyfit(n[:, unit], activated[:, unit], 1, full=True)[1].item() for unit in range(n.shape[1]))
    return {
        schema.PREACTIVATION_STD: (n.var(0, correction=0).mean() / n.square().mean()).sqrt().item(),
        schema.SIGN_DIVERSITY: torch.minimum((n > 0).double().mean(0), (n < 0).double().mean(0)).mean().item(),
        schema.LINEAR_FIT_ERROR: left / total,
    }


def test_a_share_of_the_time_is_each_members(make_trial, small_dataset, monkeypatch):
    ticks = iter(range(0, 1000, 6))
    monkeypatch.setattr("study.train_loop.time.perf_counter", lambda: next(ticks))
    members = next(iter(train_pack([make_trial(seed=seed) for seed in range(3)], small_dataset)))
    assert [member.metrics[schema.EPOCH_SECONDS] for member in members] == [2, 2, 2]


def test_work_is_six_operations_per_weight_and_training_image(make_trial):
    trial = make_trial(depth=3, width=10, epochs=1, batch_size=32, train_size=64, test_size=16)
    assert weight_count(trial) == 3072 * 10 + 100 + 100
    assert training_flops(trial) == weight_count(trial) * (6 * 64 + 2 * 2 * (64 + 16))
