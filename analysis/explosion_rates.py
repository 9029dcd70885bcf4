"""Layers and trials → explosion rate of each architecture and epoch, with its interval, beside mean-field theory."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.estimates import Estimate
from analysis.tidy_frames import ARCHITECTURE, StudyFrames

RATE_COLUMNS = [
    "network", *ARCHITECTURE, "optimizer", "epoch", "depths", "seeds", "explosion_rate", "low", "high",
    "mean_field", "errors_from_mean_field", "note",
]  # fmt: skip


@dataclasses.dataclass(frozen=True)
class RateEstimates:
    """`table` has RATE_COLUMNS, a row per architecture and epoch; `note` says why it is empty, when it is.

    `optimizer` is empty at epoch 0, where optimizers have not made a difference yet. `low` and `high` are missing for
    one seed; `mean_field` where theory has no number, and after epoch 0; `note` says so.
    """

    table: pd.DataFrame
    note: str = ""


def estimate_explosion_rates(
    frames: StudyFrames, epochs: Sequence[float] | None = (0.0,), late_half: bool = False
) -> RateEstimates:
    """Estimate the explosion rate of each architecture at given epochs (None: every whole epoch that was measured)."""
    raise NotImplementedError


def estimate_rate(ln_growth_per_layer: np.ndarray) -> Estimate:
    """Pool seeds' mean growth of ln GSC per layer, [seeds], into an explosion rate (a factor) with a t interval."""
    raise NotImplementedError
