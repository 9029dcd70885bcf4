"""Outcomes → the design of a logistic fit of failing: an intercept per training, covariates, and what trials weigh.

A training is an optimizer and the conditions under which networks were trained (`adam epochs=5`). Where one network was
trained under m conditions, its m trials of one seed and optimizer, which begin alike, count as one.
"""

import math

import numpy as np
import pandas as pd

from analysis.firth_logistic import Part, Weighting, independent_columns

GSC, DEPTH, LINEARITY = "ln GSC", "ln D", "pseudo-linearity"
COVARIATES = (GSC, DEPTH, LINEARITY)


def add_covariates(outcomes: pd.DataFrame) -> pd.DataFrame:
    """Return the outcomes that have a GSC, with COVARIATES, `training` (adam epochs=5) and `y`, 1 for a failure."""
    trials = outcomes.assign(
        training=(outcomes["optimizer"] + " " + outcomes["conditions"]).str.strip(),
        **{
            GSC: outcomes["log10_gsc"].astype(float) * math.log(10),
            DEPTH: np.log(outcomes["depth"].astype(float)),
            LINEARITY: outcomes["pseudo_linearity"].astype(float),
            "y": outcomes["failed"].astype(float),
        },
    )
    return trials[np.isfinite(trials[[GSC, DEPTH]]).all(axis=1)].reset_index(drop=True)


def make_design(trials: pd.DataFrame, covariates: tuple[str, ...]) -> tuple[np.ndarray, list[str]]:
    """Return the design [trials, columns] and its terms: an intercept per training, and covariates, centred.

    Covariates without a value for some trial are left out. Centring changes intercepts alone.
    """
    trainings = sorted(trials["training"].unique())
    columns = [(trials["training"] == training).to_numpy(dtype=float) for training in trainings]
    terms = [f"α {training}" for training in trainings]
    for covariate in covariates:
        if np.isfinite(trials[covariate]).all():
            columns.append((trials[covariate] - trials[covariate].mean()).to_numpy(dtype=float))
            terms.append(covariate)
    X = np.stack(columns, axis=1)
    kept = independent_columns(X)
    return X[:, kept], [terms[column] for column in kept]


def weigh_trials(trials: pd.DataFrame, X: np.ndarray) -> Weighting:
    """Let the trials of one network, seed and optimizer count as one; each of the conditions is a part of its own."""
    weights, parts = share_weight(trials), []
    if trials["conditions"].nunique() < 2:
        return Weighting(weights)
    for places in trials.groupby("conditions").indices.values():
        share = weights[places].sum() / share_weight(trials.iloc[places]).sum()
        parts.append(Part(places, independent_columns(X[places]), float(share)))
    return Weighting(weights, tuple(parts))


def share_weight(trials: pd.DataFrame) -> np.ndarray:
    """Return 1/m [trials] for the m trials of one network, seed and optimizer."""
    alike = trials.groupby(["architecture", "dilution", "depth", "seed", "optimizer"])["y"]
    return (1 / alike.transform("size")).to_numpy(dtype=float)
