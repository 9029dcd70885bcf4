"""Outcomes at several depths → which rule tells where training fails: a depth, 16/ln χ or a critical GSC."""

import dataclasses

import pandas as pd

from analysis.tidy_frames import StudyFrames

RULE_COLUMNS = [
    "optimizer", "rule", "constant", "constant_low", "constant_high", "parameters", "log_likelihood", "aic",
    "held_out_log_loss", "cells", "trials", "note",
]  # fmt: skip


@dataclasses.dataclass(frozen=True)
class DepthRules:
    """`table` has RULE_COLUMNS, a row per optimizer and rule; `held_out_log_loss` (nats a trial) is of cells left out.

    Rules: "own D50 per architecture" (no constant), "one depth for all", "κ/ln χ" (constant κ), "16/ln χ" (nothing
    fitted), "one critical GSC" (constant log10 GSC). `verdicts` says per optimizer which predicts best.
    """

    table: pd.DataFrame
    verdicts: dict[str, str]
    note: str = ""


def compare_depth_rules(frames: StudyFrames, failure_error: float | None = None) -> DepthRules:
    """Fit every rule per optimizer and score it on architectures that it was not fitted to."""
    raise NotImplementedError
