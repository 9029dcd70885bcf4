"""The reference effect on all of CIFAR-10: depth stops a vanilla network, dilution rescues it."""

from search_spaces.axes import grid
from study.trial_config import TrialConfig


def rescue() -> list[TrialConfig]:
    """Ask: how large is the effect of dilution at depth 10 and 50, in three epochs over all images?"""
    return grid(
        depth=[10, 50],
        dilution=[0, 1, 4],
        activation="relu",
        normalization="batch",
        optimizer="adam",
        learning_rate=3e-4,
        epochs=3,
    )
