"""How deep can each architecture be trained?"""

from search_spaces.axes import grid
from study.trial_config import TrialConfig


def depth() -> list[TrialConfig]:
    """Ask: at which depth does training begin to fail, given the best learning rate of each optimizer?"""
    axes = {
        "depth": [4, 10, 20, 35, 50, 75, 100, 150, 200],
        "activation": ["relu", "tanh", "selu"],
        "normalization": ["none", "batch", "layer"],
        "seed": [0, 1, 2],
    }
    return grid(optimizer="adam", learning_rate=[1e-4, 3e-4, 1e-3], **axes) + grid(
        optimizer="sgd", learning_rate=[1e-3, 1e-2, 1e-1], momentum=0.9, **axes
    )
