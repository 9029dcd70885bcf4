"""Explosion, pseudo-linearity and error of every cell → the Pareto front, with the probability of membership.

A cell (network, dilution) is on the front of its optimizer and depth if no other is at least as good in all three
objectives and better in one. Cells under other conditions, as more epochs, are no rivals: at the same GSC they would
beat a network only for having been trained longer. A GSC below 1 is no better than 1: nothing explodes in either. How
surely: seeds are drawn with replacement, with them the learning rate is chosen anew, and the share of draws in which a
cell is on the front is its probability of membership. Draws of n seeds vary too little by n−1 in n; deviations from the
mean of all seeds are widened by √(n/(n−1)), but no error goes beyond 0 and chance, or what was measured beyond it.
"""

import dataclasses
import math

import numpy as np
import pandas as pd

from analysis.best_learning_rates import CELL, describe_runs
from analysis.tidy_frames import StudyFrames
from study.rate_choice import DECIMALS, find_comparable

PARETO_COLUMNS = [
    *CELL, "conditions", "depth", "seeds", "log10_gsc", "pseudo_linearity", "error", "on_front", "membership", "note",
]  # fmt: skip
OBJECTIVES = ["log10_gsc", "pseudo_linearity", "error"]
RESAMPLING_SEED = 20_261


@dataclasses.dataclass(frozen=True)
class ParetoFront:
    """`table` has PARETO_COLUMNS, a row per optimizer, depth, network and dilution; smaller is better in all three.

    `log10_gsc` (input → logits) and `pseudo_linearity` are of the untrained network, `error` is the final training
    error at the best learning rate, all of them means over seeds. `membership` is missing where one seed was trained.
    """

    table: pd.DataFrame
    note: str = ""


def estimate_pareto_front(frames: StudyFrames, replicates: int = 500) -> ParetoFront:
    """Find, per depth, optimizer and conditions, who is beaten by nobody in all three, and how surely."""
    runs = describe_runs(frames)
    usable = runs[np.isfinite(runs[OBJECTIVES].astype(float)).all(axis=1)] if len(runs) else runs
    if usable.empty:
        note = f"There is no front: none of {len(frames.trials)} trials has GSC, pseudo-linearity and a final error."
        return ParetoFront(pd.DataFrame(columns=PARETO_COLUMNS), note)
    tables = [
        _find_one_front(group, frames.chance_error, replicates, np.random.default_rng(RESAMPLING_SEED))
        for _, group in usable.groupby(["optimizer", "conditions", "depth"], sort=True)
    ]
    return ParetoFront(pd.concat(tables, ignore_index=True))


def find_front(objectives: np.ndarray) -> np.ndarray:
    """Return which points [..., points] are not dominated, from objectives [..., points, objectives] to minimise."""
    others, own = objectives[..., None, :, :], objectives[..., :, None, :]
    dominated = (others <= own).all(axis=-1) & (others < own).any(axis=-1)
    return np.asarray(~dominated.any(axis=-1))


def _find_one_front(
    runs: pd.DataFrame, chance_error: float, replicates: int, generator: np.random.Generator
) -> pd.DataFrame:
    """Return PARETO_COLUMNS for one optimizer, conditions and depth."""
    places = [*CELL, "conditions", "depth"]
    groups = list(runs.groupby(places, sort=True))
    points = np.stack([_resample_cell(group, chance_error, replicates, generator) for _, group in groups], axis=1)
    seeds = [group["seed"].nunique() for _, group in groups]
    table = pd.DataFrame([key for key, _ in groups], columns=places).assign(seeds=seeds)
    table[OBJECTIVES] = points[0]
    points[..., 0] = np.maximum(points[..., 0], 0.0)
    on_front = find_front(points)
    few = min(seeds) < 2
    return table.assign(
        on_front=on_front[0],
        membership=math.nan if few else on_front[1:].mean(axis=0),
        note="one seed in some cell: membership has no probability" if few else "",
    )[PARETO_COLUMNS]


def _resample_cell(
    runs: pd.DataFrame, chance_error: float, replicates: int, generator: np.random.Generator
) -> np.ndarray:
    """Return the mean objectives [1 + replicates, 3] at the best learning rate: as measured, then of draws of seeds."""
    tables = {
        name: runs.pivot_table(index="learning_rate", columns="seed", values=name).to_numpy(dtype=float)
        for name in OBJECTIVES
    }
    seeds = tables["error"].shape[1]
    rates, compared = find_comparable(np.isfinite(tables["error"]))
    widening = math.sqrt(seeds / (seeds - 1)) if seeds > 1 else 1.0
    drawn = generator.integers(seeds, size=(replicates, seeds))
    tables["compared error"] = np.where(compared, tables["error"], math.nan)
    means = []
    for name, table in tables.items():
        # A seed that is missing at some rate has that rate's mean: it adds no deviation.
        candidates = table[rates]
        center = np.nanmean(candidates, axis=1, keepdims=True)
        deviations = np.where(np.isfinite(candidates), candidates - center, 0.0)
        resampled = center[:, 0] + widening * deviations[:, drawn].mean(axis=2).T
        if name in ("error", "compared error"):
            resampled = resampled.clip(0.0, max(chance_error, np.nanmax(candidates)))
        means.append(np.concatenate([center.T, resampled]))
    chosen = np.round(means.pop(), DECIMALS).argmin(axis=1)
    return np.stack([mean[np.arange(replicates + 1), chosen] for mean in means], axis=1)
