"""Trials over learning rates → one outcome per cell, depth and seed, at a learning rate that other seeds chose."""

import dataclasses

import pandas as pd

from analysis.tidy_frames import StudyFrames

CELL = ["network", "optimizer", "dilution"]
OUTCOME_COLUMNS = [
    *CELL, "depth", "seed", "learning_rate", "run_id", "error", "failed", "diverged", "log10_gsc", "pseudo_linearity",
]  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Outcomes:
    """`table` has OUTCOME_COLUMNS; `failure_error` is the training error from which a trial counts as failed.

    `excluded` counts trials without a final error (failed to run, unfinished); `note` says what limits the choice, or
    why the table is empty.
    """

    table: pd.DataFrame
    failure_error: float | None
    excluded: int
    note: str = ""


def choose_outcomes(frames: StudyFrames, failure_error: float | None = None) -> Outcomes:
    """Return what each seed reached with the learning rate that the other seeds found best."""
    raise NotImplementedError
