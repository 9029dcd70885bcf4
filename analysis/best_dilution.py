"""Errors over dilution levels → the dilution that minimises error at each depth, with its interval."""

import dataclasses

import numpy as np
import pandas as pd

from analysis.estimates import Estimate
from analysis.tidy_frames import StudyFrames

DILUTION_COLUMNS = [
    "network", "optimizer", "depth", "levels", "seeds", "best_dilution", "low", "high", "written", "error",
    "error_without", "not_excluded", "note",
]  # fmt: skip


@dataclasses.dataclass(frozen=True)
class BestDilutions:
    """`table` has DILUTION_COLUMNS, a row per network, optimizer and depth; `note` says why it is empty."""

    table: pd.DataFrame
    note: str = ""


def estimate_best_dilutions(frames: StudyFrames) -> BestDilutions:
    """Estimate, per network, optimizer and depth, which dilution gives the smallest final training error."""
    raise NotImplementedError


def find_best_dilution(dilutions: np.ndarray, errors: np.ndarray) -> tuple[Estimate, list[float]]:
    """Return the best of the levels tried, and all that cannot be excluded, from single trials [trials] each."""
    raise NotImplementedError
