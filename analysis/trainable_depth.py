"""Outcomes of training at several depths → D50, the depth at which half of the trainings fail, with its interval."""

import dataclasses

import numpy as np
import pandas as pd

from analysis.best_learning_rates import CELL
from analysis.estimates import Estimate
from analysis.tidy_frames import StudyFrames

DEPTH_COLUMNS = [
    *CELL, "depths", "trials", "failed", "d50", "d50_low", "d50_high", "written", "spread", "lapse",
    "rule_depth", "rule_depth_low", "rule_depth_high", "critical_log10_gsc", "critical_log10_gsc_low",
    "critical_log10_gsc_high", "note",
]  # fmt: skip


@dataclasses.dataclass(frozen=True)
class DepthFit:
    """P(fail) = λ + (1 − 2λ) Φ((ln D − ln d50)/spread); `lapse` is λ. Missing where nothing tells."""

    d50: Estimate
    spread: float | None = None
    lapse: float | None = None


@dataclasses.dataclass(frozen=True)
class TrainableDepths:
    """`table` has DEPTH_COLUMNS, a row per network, optimizer and dilution.

    `written` is D50 for people, with its interval or as an open bound ("≥ 84"). `rule_depth` is 16/ln χ of the measured
    explosion rate before training; `critical_log10_gsc` the GSC that untrained networks of depth D50 have.
    """

    table: pd.DataFrame
    failure_error: float | None
    note: str = ""


def estimate_trainable_depths(
    frames: StudyFrames, failure_error: float | None = None, replicates: int = 200
) -> TrainableDepths:
    """Estimate D50 per network, optimizer and dilution, the learning rate being chosen inside the bootstrap."""
    raise NotImplementedError


def fit_trainable_depth(depths: np.ndarray, failed: np.ndarray) -> DepthFit:
    """Fit D50 to single outcomes: depths [trials] and whether each failed [trials]."""
    raise NotImplementedError
