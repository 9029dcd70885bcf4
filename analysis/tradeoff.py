"""Outcomes → logit P(fail) = α_optimizer + β₁ ln GSC + β₂ ln D + β₃ pseudo-linearity; does GSC suffice?"""

import dataclasses

import pandas as pd

from analysis.estimates import Estimate
from analysis.tidy_frames import StudyFrames

COEFFICIENT_COLUMNS = [
    "term", "coefficient", "low", "high", "p_value", "low_between_networks", "high_between_networks", "note",
]  # fmt: skip
SCORE_COLUMNS = ["model", "held_out", "trials", "log_loss", "brier", "note"]
CRITICAL_COLUMNS = ["network", "optimizer", "trials", "failed", "critical_log10_gsc", "low", "high", "note"]


@dataclasses.dataclass(frozen=True)
class Tradeoff:
    """What stops training.

    `coefficients` has COEFFICIENT_COLUMNS: Firth's penalised likelihood, its profile intervals, and jackknife
    intervals over networks, which hold if networks differ in what the model does not know.
    `scores` has SCORE_COLUMNS: per model and network left out ("all": their mean weighted by trials).
    `critical` has CRITICAL_COLUMNS: the GSC at which half fail, per network and optimizer.
    `depth_adds` and `shared` say in a sentence whether GSC suffices and whether the critical GSC is shared; their p
    values are beside. `note` says why there is nothing.
    """

    coefficients: pd.DataFrame
    scores: pd.DataFrame
    critical: pd.DataFrame
    depth_adds: str
    depth_p_value: float | None
    shared: str
    shared_p_value: float | None
    critical_gsc: dict[str, Estimate]
    failure_error: float | None
    note: str = ""


def fit_tradeoff(frames: StudyFrames, failure_error: float | None = None) -> Tradeoff:
    """Fit, test and score what tells failing trainings from others."""
    raise NotImplementedError
