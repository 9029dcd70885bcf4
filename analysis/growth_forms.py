"""Profiles of GSC over layers → which form its growth has: exponential, power or stretched exponential."""

import dataclasses

import numpy as np
import pandas as pd

from analysis.tidy_frames import ARCHITECTURE, StudyFrames

FORMS = ("exponential", "power", "stretched")
FORM_COLUMNS = [
    "network", *ARCHITECTURE, "depth", "seeds", "best", "exponential_error", "power_error", "stretched_error",
    "gain_over_exponential", "gain_low", "gain_high", "stretched_exponent", "note",
]  # fmt: skip


@dataclasses.dataclass(frozen=True)
class FormComparison:
    """Errors (decades of GSC, root mean square) on seeds that a form was not fitted to, and the form to prefer.

    `best` is exponential unless another form's gain over it has an interval above 0. Missing with one seed.
    """

    best: str | None
    errors: dict[str, float]
    gain: tuple[float | None, float | None, float | None]
    exponent: float | None
    note: str = ""


@dataclasses.dataclass(frozen=True)
class FormComparisons:
    """`table` has FORM_COLUMNS, a row per architecture, at its greatest depth; `note` says why it is empty."""

    table: pd.DataFrame
    note: str = ""


def compare_growth_forms(frames: StudyFrames) -> FormComparisons:
    """Compare the forms before training, per architecture, at the greatest depth with most seeds."""
    raise NotImplementedError


def compare_forms(log10_gsc: np.ndarray) -> FormComparison:
    """Compare the forms on profiles [seeds, layers 1 … D−1] of log10 GSC(layer → logits), leaving each seed out."""
    raise NotImplementedError
