"""Depth against trainability over many architectures, on a subset of the images that two cores train in an hour."""

from search_spaces.axes import grid
from study.trial_config import TrialConfig


def tradeoff() -> list[TrialConfig]:
    """Ask: how deep can each network be trained, does GSC say where it ends, and which dilution moves the end?"""
    axes = {
        "depth": [4, 6, 10, 16, 25, 40, 63, 100],
        "activation": ["relu", "tanh"],
        "normalization": ["none", "batch", "layer"],
        "dilution": [0, 1, 2, 4],
        "seed": [0, 1],
        "epochs": 4,
        "train_size": 8_000,
        "test_size": 2_000,
    }
    return grid(optimizer="adam", learning_rate=[3e-4, 1e-3, 3e-3], **axes) + grid(
        optimizer="sgd", learning_rate=[1e-2, 3e-2, 1e-1], **axes
    )
