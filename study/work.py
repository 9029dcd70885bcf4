"""Trials → the arithmetic that they cost, for plans, sizes of packs and the remaining time."""

from collections.abc import Sequence

from study.trial_config import TrialConfig

INPUT_SIZE = 3072
CLASS_COUNT = 10
FULL_TRAIN_SIZE, FULL_TEST_SIZE = 50_000, 10_000
EVALUATION_BATCH = 480
"""Images evaluated at once; a constant, because the batch size may change the last bits of a result. In rows of so many
numbers every vector is full and begins where a cache line does."""
MEASURE_FROM_FLOPS = 2e14
"""Work of a study from which measuring times costs little beside it."""


def weight_count(trial: TrialConfig, input_size: int = INPUT_SIZE, class_count: int = CLASS_COUNT) -> int:
    """Return the number of weights, biases left out."""
    return input_size * trial.width + (trial.depth - 2) * trial.width**2 + trial.width * class_count


def training_flops(trial: TrialConfig, train_images: int = FULL_TRAIN_SIZE, test_images: int = FULL_TEST_SIZE) -> float:
    """Return the floating-point operations of one trial on so many images of CIFAR-10's size, or what it takes of them.

    Per weight and image: 2 forward and 4 backward in training, 2 in the evaluation of both splits at each epoch.
    Normalization, activation, optimizer and probes are left out.
    """
    train, test = trial.train_size or train_images, trial.test_size or test_images
    steps = train // trial.batch_size
    per_weight = trial.epochs * steps * trial.batch_size * 6 + (trial.epochs + 1) * (train + test) * 2
    return float(per_weight) * weight_count(trial)


def is_worth_measuring(trials: Sequence[TrialConfig]) -> bool:
    """Say whether a study is so long that measured times pay."""
    return sum(map(training_flops, trials)) >= MEASURE_FROM_FLOPS
