import pytest
import torch

from study.network import PackedNetwork
from study.optimizers import PackedOptimizer, schedule_factor
from study.random_streams import make_generator


@pytest.mark.parametrize(
    ("schedule", "factors"),
    [
        ("constant", {0: 1, 0.5: 1, 0.99: 1}),
        ("cosine", {0: 1, 0.5: 0.5, 1: 0}),
        ("step", {0: 1, 0.49: 1, 0.5: 0.1, 0.74: 0.1, 0.75: 0.01, 0.99: 0.01}),
    ],
)
def test_schedules(schedule, factors):
    for progress, factor in factors.items():
        assert schedule_factor(schedule, progress) == pytest.approx(factor, abs=1e-12)


def take_step(trial, size):
    """Weights before and after a step along random gradients of a size, in fp32, layer by layer."""
    network = PackedNetwork([trial], 20, 4)
    generator = make_generator(0, "test")
    gradients = [size * torch.randn(stacked.shape, generator=generator) for stacked in network.stacked]
    before = [stacked.clone() for stacked in network.stacked]
    PackedOptimizer([trial], network.stacked, total_steps=1).step(gradients)
    return [list(zip(old, new, strict=True)) for old, new in zip(before, network.stacked, strict=True)]


@pytest.mark.parametrize("size", [1e-30, 1.0, 1e30])  # squares of the first and the last are no fp32 numbers
def test_steps_do_not_depend_on_the_size_of_gradients_where_they_are_to_be_scaled(make_trial, size):
    trial = make_trial(optimizer="sgd", learning_rate=0.5, clipping="norm", clipping_threshold=1e-31)
    square = sum(float((new - old).double().square().sum()) for layers in take_step(trial, size) for old, new in layers)
    # Biases begin at 0, so that even such a step is seen in them; weights are too large for it.
    assert 0 < square**0.5 <= 0.5e-31 * (1 + 1e-6)
    trial = make_trial(optimizer="sgd", learning_rate=0.5, layerwise_step_sizes=True)
    for layers in take_step(trial, size)[::2]:
        for old, new in layers:
            assert float((new - old).norm() / old.norm()) == pytest.approx(0.5, rel=1e-5)
