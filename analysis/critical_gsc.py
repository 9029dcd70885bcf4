"""Outcomes → the critical GSC: that at which half of the trainings fail, where a curve with GSC alone passes 1/2."""

import math

import pandas as pd

from analysis.estimates import Estimate
from analysis.failure_design import GSC, make_design, weigh_trials
from analysis.firth_logistic import critical_value

CRITICAL_COLUMNS = [
    "network", "optimizer", "architecture", "training", "trials", "failed", "least_log10_gsc", "greatest_log10_gsc",
    "critical_log10_gsc", "low", "high", "note",
]  # fmt: skip


def tabulate_critical(trials: pd.DataFrame) -> pd.DataFrame:
    """Return CRITICAL_COLUMNS: log10 of the GSC at which half of the trainings fail, per network and optimizer.

    `least_log10_gsc` and `greatest_log10_gsc` are of the GSC that were measured.
    """
    rows = []
    for (network, optimizer), group in trials.groupby(["network", "optimizer"], sort=True):
        estimate = _critical_of(group)
        rows.append(
            {"network": network, "optimizer": optimizer}
            | {name: group[name].iloc[0] for name in ("architecture", "training")}
            | {"trials": len(group), "failed": int(group["y"].sum())}
            | {"least_log10_gsc": group["log10_gsc"].min(), "greatest_log10_gsc": group["log10_gsc"].max()}
            | estimate.as_columns("critical_log10_gsc", "low", "high")
            | {"note": estimate.note}
        )
    return pd.DataFrame(rows, columns=CRITICAL_COLUMNS)


def find_critical_gsc(trials: pd.DataFrame) -> dict[str, Estimate]:
    """Return log10 of the critical GSC per training; optimizers under the same conditions share the rise β₁."""
    found: dict[str, Estimate] = {}
    for _, alike in trials.groupby("conditions"):
        found |= {training: _critical_of(alike, training) for training in alike["training"].unique()}
    return dict(sorted(found.items()))


def _critical_of(trials: pd.DataFrame, training: str | None = None) -> Estimate:
    own = trials if training is None else trials[trials["training"] == training]
    failed = int(own["y"].sum())
    least, most = (float(end) for end in own["log10_gsc"].astype(float).agg(["min", "max"]))
    if failed == 0:
        return Estimate(note=f"0 of {len(own)} trainings failed at a GSC of up to 10^{most:.2f}")
    if failed == len(own):
        return Estimate(note=f"{failed} of {len(own)} trainings failed at a GSC of 10^{least:.2f} and more")
    X, terms = make_design(trials, (GSC,))
    if GSC not in terms:
        return Estimate(note="all trainings started with the same GSC")
    intercept = terms.index(f"α {training}") if training else 0
    place = critical_value(X, trials["y"].to_numpy(), terms.index(GSC), intercept, weigh_trials(trials, X))
    if place[0] is None:
        return Estimate(note="failures do not become more frequent with GSC")
    center = float(trials[GSC].mean())
    value, low, high = (None if part is None else (part + center) / math.log(10) for part in place)
    assert value is not None
    if value > most:
        low = None if low is None else min(low, most)
        return Estimate(None, low, None, f"the critical GSC lies beyond the greatest that was measured, 10^{most:.2f}")
    if value < least:
        high = None if high is None else max(high, least)
        return Estimate(None, None, high, f"the critical GSC lies below the least that was measured, 10^{least:.2f}")
    return Estimate(value, low, high, "the interval is open" if low is None or high is None else "")
