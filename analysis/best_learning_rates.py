"""Trials over learning rates → one outcome per cell, depth and seed, at a learning rate that other seeds chose.

Who picks the best of several learning rates and then looks at the very runs that were picked, sees luck. So each seed
is judged at the learning rate with the lowest mean final training error over the *other* seeds of its cell and depth.
"""

import dataclasses

import numpy as np
import pandas as pd

from analysis.tidy_frames import StudyFrames
from study import run_log_schema as schema

CELL = ["network", "optimizer", "dilution"]
OUTCOME_COLUMNS = [
    *CELL, "architecture", "conditions", "depth", "seed", "learning_rate", "run_id", "error", "failed", "diverged",
    "log10_gsc", "pseudo_linearity",
]  # fmt: skip
LEAST_PROGRESS = 0.1
"""Share of chance by which the error must fall: with less than that, nothing was learned."""
ONE_SEED = "One seed: its learning rates are chosen on the runs that are judged, which flatters them."


@dataclasses.dataclass(frozen=True)
class Outcomes:
    """`table` has OUTCOME_COLUMNS; `failure_error` is the training error from which a trial counts as failed.

    `error` is the final training error; `log10_gsc` and `pseudo_linearity` are of the untrained network, the latter
    1 − linear_fit_error/(k² + 1): the share of a block's output that is linear in its input, the skip path included.
    `excluded` counts trials without a final error (failed to run, unfinished); `note` says what limits the choice, or
    why the table is empty.
    """

    table: pd.DataFrame
    failure_error: float | None
    excluded: int
    note: str = ""


def best_learning_rates(trials: pd.DataFrame) -> pd.DataFrame:
    """Return the learning rate with the lowest mean final training error per cell and depth (CELL, depth columns).

    Rates that fewer seeds have finished than others are no candidates; of equally good ones the smallest is taken.
    """
    place = [*CELL, "depth"]
    counted = trials.dropna(subset="final_train_error")
    by_rate = counted.groupby([*place, "learning_rate"]).agg(
        seeds=("seed", "nunique"), error=("final_train_error", "mean")
    )
    complete = by_rate[by_rate["seeds"] == by_rate.groupby(place)["seeds"].transform("max")].reset_index()
    best = complete.sort_values(["error", "learning_rate"], kind="stable").drop_duplicates(place)
    return best[[*place, "learning_rate"]].sort_values(place, ignore_index=True)


def default_failure_error(trials: pd.DataFrame, chance_error: float) -> float | None:
    """Return the error half-way between chance and the best cell of the study: less progress than that is failure.

    It is at least LEAST_PROGRESS of chance below chance, so that where nothing learns no cell is called trained for
    being the luckiest. None when no trial has a final error.
    """
    best = best_learning_rates(trials)
    if best.empty:
        return None
    chosen = trials.dropna(subset="final_train_error").merge(best)
    lowest = float(chosen.groupby([*CELL, "depth"])["final_train_error"].mean().min())
    return min((chance_error + lowest) / 2, (1 - LEAST_PROGRESS) * chance_error)


def choose_outcomes(frames: StudyFrames, failure_error: float | None = None) -> Outcomes:
    """Return what each seed reached with the learning rate that the other seeds found best.

    A trial fails when its final training error is above `failure_error` (default: `default_failure_error`), and when
    it diverged. Of trials that differ in nothing that this analysis tells apart the first counts.
    """
    counted = describe_runs(frames)
    excluded = len(frames.trials) - len(counted)
    usual = default_failure_error(frames.trials, frames.chance_error)
    if usual is None:
        note = f"There are no outcomes: none of {len(frames.trials)} trials has a final training error."
        return Outcomes(pd.DataFrame(columns=OUTCOME_COLUMNS), None, excluded, note)
    limit = usual if failure_error is None else failure_error
    chosen = choose_on_other_seeds(counted)
    chosen = chosen.assign(failed=chosen["diverged"] | (chosen["error"] > limit))
    note = _warn_of_own_choices(counted, chosen)
    if failure_error is None and chosen["failed"].all() and limit >= (1 - LEAST_PROGRESS) * frames.chance_error:
        note = "No trial is better than chance by a tenth of it: all of them count as failed."
    return Outcomes(
        chosen[OUTCOME_COLUMNS].sort_values([*CELL, "depth", "seed"], ignore_index=True), limit, excluded, note
    )


def _warn_of_own_choices(runs: pd.DataFrame, chosen: pd.DataFrame) -> str:
    """Say how many seeds had several learning rates and none of them in common with another seed."""
    place = [*CELL, "depth"]
    rates = runs.groupby([*place, "seed"])["learning_rate"].nunique().rename("rates")
    seeds = runs.groupby([*place, "learning_rate"])["seed"].nunique().rename("seeds")
    joined = chosen.join(rates, on=[*place, "seed"]).join(seeds, on=[*place, "learning_rate"])
    own = int(((joined["rates"] > 1) & (joined["seeds"] == 1)).sum())
    if runs["seed"].nunique() == 1 and own:
        return ONE_SEED
    return (
        f"{own} of {len(chosen)} learning rates are chosen on the runs that are judged: no other seed has them."
        if own
        else ""
    )


def describe_runs(frames: StudyFrames) -> pd.DataFrame:
    """Return every trial with a final training error, with the columns of outcomes but `failed`."""
    first = frames.epochs[frames.epochs["epoch"] == 0].drop_duplicates("run_id").set_index("run_id")
    trials = frames.trials.dropna(subset="final_train_error").rename(
        columns={"final_train_error": "error", "initial_log10_gsc": "log10_gsc"}
    )
    linear_fit_error = trials["run_id"].map(first[schema.LINEAR_FIT_ERROR]).astype(float)
    return trials.assign(
        diverged=trials["status"] == schema.STATUS_DIVERGED,
        pseudo_linearity=1 - linear_fit_error / (trials["dilution"] ** 2 + 1),
    )


def choose_on_other_seeds(runs: pd.DataFrame) -> pd.DataFrame:
    """Keep one row per cell, depth and seed: the run at the learning rate that is best for the other seeds.

    Candidates are rates that this seed was trained with; those that fewer of the other seeds have finished come
    last. A seed without others is judged at its own best rate.
    """
    place = [*CELL, "depth"]
    runs = runs.drop_duplicates([*place, "learning_rate", "seed"]).reset_index(drop=True)
    by_rate = runs.groupby([*place, "learning_rate"])["error"]
    others = by_rate.transform("count") - 1
    total = by_rate.transform("sum") - runs["error"]
    mean = np.where(others > 0, total / np.maximum(others, 1), runs["error"])
    ranked = runs.assign(_fewer=-others, _mean=np.round(mean, 12))
    ranked = ranked.sort_values(["_fewer", "_mean", "learning_rate"], kind="stable")
    return ranked.drop_duplicates([*place, "seed"]).drop(columns=["_fewer", "_mean"])
