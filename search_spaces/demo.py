"""A story in minutes: a deep vanilla network fails, and dilution rescues it."""

from search_spaces.axes import grid
from study.trial_config import TrialConfig


def demo() -> list[TrialConfig]:
    """Ask: does depth stop training, for both activations and both optimizers, and does dilution bring it back?"""
    axes = {
        "depth": [4, 10, 25, 50],
        "dilution": [0, 1, 4],
        "activation": ["relu", "tanh"],
        "normalization": "batch",
        "epochs": 4,
        "train_size": 10_000,
        "test_size": 2_000,
    }
    return grid(optimizer="adam", learning_rate=5e-4, **axes) + grid(
        optimizer="sgd", learning_rate=0.02, momentum=0.9, clipping="norm", **axes
    )
