"""Trials → which parameters the final error depends on: exact shares of variance, or PED-ANOVA where sampled."""

import dataclasses

import pandas as pd

from analysis.tidy_frames import StudyFrames

SHARE_COLUMNS = ["term", "order", "share", "low", "high", "note"]


@dataclasses.dataclass(frozen=True)
class Importance:
    """`table` has SHARE_COLUMNS, largest share first.

    `method` is "shares of variance" on a factorial space: main effects and two-way terms, what is left of higher order
    ("higher orders"), and the variance over seeds ("seeds"), which add up to 1, with 95% intervals. It is "PED-ANOVA"
    on a sampled one: relative importances of reaching the best tenth, which add up to 1, with bootstrap intervals.
    """

    table: pd.DataFrame
    method: str
    trials: int
    note: str = ""


def estimate_importance(frames: StudyFrames, replicates: int = 200) -> Importance:
    """Say which parameters the final training error depends on, by the method that suits the space."""
    raise NotImplementedError
