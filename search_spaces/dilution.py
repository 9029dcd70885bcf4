"""How much dilution does each depth need?"""

from search_spaces.axes import grid
from study.trial_config import TrialConfig


def dilution() -> list[TrialConfig]:
    """Ask: which skip path, from none to sixteen times the residual one, gives the smallest error at each depth?"""
    return grid(
        dilution=[0, 0.5, 1, 2, 4, 8, 16],
        depth=[10, 25, 50, 100],
        activation=["relu", "tanh"],
        normalization="batch",
        optimizer="adam",
        learning_rate=[1e-4, 3e-4, 1e-3],
        seed=[0, 1, 2],
    )
