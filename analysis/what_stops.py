"""The trade-off → what stops training, in one sentence, which says what it cannot say."""

import math

import numpy as np
import pandas as pd

from analysis.failure_design import DEPTH, GSC, LINEARITY
from analysis.section import write_number
from analysis.tradeoff import EVERY_NETWORK, MODELS, UNTOLD, Tradeoff
from analysis.wording import as_clause, give_reason

ODDS_SHOWN = 1e6
"""Odds beyond this factor say no more than that they are large."""
ODDS_DIGITS = math.log10(ODDS_SHOWN)


def say_what_stops(tradeoff: Tradeoff) -> str:
    """Say by how much ten times the GSC raises the odds of failure, and whether GSC suffices."""
    rows_of_gsc = tradeoff.coefficients[tradeoff.coefficients["term"] == GSC]
    rows = rows_of_gsc.dropna(subset="coefficient")
    if rows.empty:
        return f"What stops training cannot be told: {give_reason(tradeoff.note, rows_of_gsc)}."
    row = rows.iloc[0]
    factor = f"multiplies the odds of failure by {_write_odds(row['coefficient'])}"
    if row["low"] < -ODDS_DIGITS and row["high"] > ODDS_DIGITS:
        factor = "may raise or lower the odds of failure by any factor"
    elif not np.isnan([row["low"], row["high"]]).any():
        factor += f" (95% interval {_write_odds(row['low'])} to {_write_odds(row['high'])})"
    what = f"ten times the GSC before training{_at_equal_others(tradeoff.coefficients)} {factor}"
    more = f"; {as_clause(tradeoff.depth_adds)}" if tradeoff.depth_adds else ""
    better, scores = _compare_on_left_out(tradeoff.scores)
    if better is False:
        return (
            f"That exploding gradients stop training is not shown here: {scores}. In the fit to all networks, "
            f"{what}{more}."
        )
    more += f"; {scores}" if scores else ""
    if row["low"] > 0 and row["low_between_networks"] <= 0:
        between = f"{_write_odds(row['low_between_networks'])} to {_write_odds(row['high_between_networks'])}"
        return (
            f"Exploding gradients go with failure in these networks: {what}; networks differ too much to say that it "
            f"holds for others (95% interval between networks {between}){more}."
        )
    if row["low"] > 0 and math.isnan(row["low_between_networks"]):
        few = "" if UNTOLD in more else f"; {UNTOLD}"
        return f"Exploding gradients go with failure in these networks: {what}{few}{more}."
    if row["low"] > 0:
        return f"Exploding gradients stop training: {what}{more}."
    if row["high"] < 0 and row["high_between_networks"] < 0:
        return f"Exploding gradients are not what stops training here: {what}{more}."
    return f"That exploding gradients stop training is not shown here: {what}{more}."


def _at_equal_others(coefficients: pd.DataFrame) -> str:
    """Name the covariates that are in the fit beside GSC."""
    fitted = set(coefficients.dropna(subset="coefficient")["term"])
    others = [name for term, name in ((DEPTH, "depth"), (LINEARITY, LINEARITY)) if term in fitted]
    return f", at equal {' and '.join(others)}," if others else ""


def _compare_on_left_out(scores: pd.DataFrame) -> tuple[bool | None, str]:
    """Say whether knowing GSC helps to predict networks that were left out of the fit; None where none could be."""
    whole = scores[scores["held_out"] == EVERY_NETWORK].dropna(subset="log_loss") if len(scores) else scores
    if not len(whole):
        return None, ""
    loss = whole.set_index("model")["log_loss"].astype(float)
    informed = [model for model in loss.index if GSC in MODELS[model]]
    best, rival = loss[informed].idxmin(), loss.drop(informed).idxmin()
    if loss[best] < loss[rival]:
        return (
            True,
            f"networks left out of the fit are predicted best from {best} (log loss {loss[best]:.3f}; without GSC "
            f"{loss[rival]:.3f})",
        )
    return False, (
        f"networks left out of the fit are predicted no better with GSC (log loss {loss[best]:.3f}) than from "
        f"{rival} ({loss[rival]:.3f})"
    )


def _write_odds(coefficient: float) -> str:
    """Write what ten times the GSC does to the odds."""
    factor = 10 ** float(np.clip(coefficient, -12, 12))
    if factor > ODDS_SHOWN:
        return "more than a million"
    return "less than a millionth" if factor < 1 / ODDS_SHOWN else write_number(factor)
