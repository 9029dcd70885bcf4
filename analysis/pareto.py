"""Explosion, pseudo-linearity and error of every cell → the Pareto front, with the probability of membership."""

import dataclasses

import numpy as np
import pandas as pd

from analysis.best_learning_rates import CELL
from analysis.tidy_frames import StudyFrames

PARETO_COLUMNS = [
    *CELL, "depth", "seeds", "log10_gsc", "pseudo_linearity", "error", "on_front", "membership", "note",
]  # fmt: skip


@dataclasses.dataclass(frozen=True)
class ParetoFront:
    """`table` has PARETO_COLUMNS, a row per network, optimizer and dilution at one depth; smaller is better in all."""

    table: pd.DataFrame
    note: str = ""


def estimate_pareto_front(frames: StudyFrames, replicates: int = 500) -> ParetoFront:
    """Find, per depth and optimizer, who is beaten by nobody in all three, and how surely."""
    raise NotImplementedError


def find_front(objectives: np.ndarray) -> np.ndarray:
    """Return which points [..., points] are not dominated, from objectives [..., points, objectives] to minimise."""
    raise NotImplementedError
