"""Trials over learning rates → one outcome per cell, depth and seed, at a learning rate that other seeds chose.

Who picks the best of several learning rates and then looks at the very runs that were picked, sees luck. So each seed
is judged at the learning rate with the lowest mean final training error over the *other* seeds of its cell and depth.
Where runs are missing, rates are compared as `study.rate_choice` says, and a seed without a run at the rate that the
others chose is left out: judged at another rate it would count as a failure of the training.
"""

import dataclasses

import numpy as np
import pandas as pd

from analysis.tidy_frames import StudyFrames
from study import run_log_schema as schema
from study.rate_choice import DECIMALS

CELL = ["network", "optimizer", "dilution"]
PLACE = [*CELL, "depth"]
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
    `excluded` counts trials without a final error (failed to run, unfinished); `left_out` says how many seeds are not
    judged because runs are missing; `note` says what limits the choice, or why the table is empty.
    """

    table: pd.DataFrame
    failure_error: float | None
    excluded: int
    note: str = ""
    left_out: str = ""


def best_learning_rates(trials: pd.DataFrame) -> pd.DataFrame:
    """Return the learning rate with the lowest mean final training error per cell and depth (PLACE columns).

    Means are over the seeds that all candidates have (see `study.rate_choice`); of equally good rates the smallest is
    taken.
    """
    runs = trials.dropna(subset="final_train_error").rename(columns={"final_train_error": "error"})
    runs = _find_candidates(runs)
    is_paired = runs.groupby(PLACE)["shared"].transform("any")
    compared = runs[runs["shared"] | ~is_paired]
    by_rate = compared.groupby([*PLACE, "learning_rate"])["error"].mean().round(DECIMALS).reset_index()
    best = by_rate.sort_values(["error", "learning_rate"], kind="stable").drop_duplicates(PLACE)
    return best[[*PLACE, "learning_rate"]].sort_values(PLACE, ignore_index=True)


def _find_candidates(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the runs at rates that are candidates, as `study.rate_choice.find_comparable` has it.

    `shared` says whether all candidates have the seed, `most` how many seeds the rate with the most has.
    """
    place = runs.groupby(PLACE).ngroup()
    counts = runs.groupby([place, "learning_rate"])["seed"].transform("nunique")
    most = counts.groupby(place).transform("max")
    candidates, place = runs.assign(most=most)[2 * counts >= most], place[2 * counts >= most]
    rates = candidates.groupby(place)["learning_rate"].transform("nunique")
    own = candidates.groupby([place, "seed"])["learning_rate"].transform("nunique")
    return candidates.assign(shared=own == rates)


def default_failure_error(trials: pd.DataFrame, chance_error: float) -> float | None:
    """Return the error half-way between chance and the best cell of the study: less progress than that is failure.

    It is at least LEAST_PROGRESS of chance below chance, so that where nothing learns no cell is called trained for
    being the luckiest. None when no trial has a final error.
    """
    best = best_learning_rates(trials)
    if best.empty:
        return None
    chosen = trials.dropna(subset="final_train_error").merge(best)
    lowest = float(chosen.groupby(PLACE)["final_train_error"].mean().min())
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
        note = "No training that is judged is better than chance by a tenth of it: all of them count as failed."
    if chosen.empty:
        note = "There are no outcomes: every seed lacks a run at the learning rate that the others chose."
    table = chosen[OUTCOME_COLUMNS].sort_values([*PLACE, "seed"], ignore_index=True)
    return Outcomes(table, limit, excluded, note, _count_left_out(counted, table))


def _count_left_out(runs: pd.DataFrame, chosen: pd.DataFrame) -> str:
    """Say in how many places rates have unequal seeds, and how many seeds are not judged for it; empty for none."""
    seeds = runs.groupby([*PLACE, "learning_rate"])["seed"].nunique().groupby(PLACE)
    shared_by_some, unequal = seeds.max() > 1, seeds.min() < runs.groupby(PLACE)["seed"].nunique()
    places = int((shared_by_some & unequal).sum())
    if not places:
        return ""
    judgeable = len(runs[[*PLACE, "seed"]].drop_duplicates())
    return (
        f"In {places} of {len(unequal)} cells (each at one depth) learning rates have unequal seeds: they are compared "
        "on the seeds that they share. Seeds whose run at the rate that the others chose is missing are left out of "
        f"D50, the trade-off and the best dilution: {judgeable - len(chosen)} of {judgeable}."
    )


def _warn_of_own_choices(runs: pd.DataFrame, chosen: pd.DataFrame) -> str:
    """Say how many seeds had several learning rates and none of them in common with another seed."""
    rates = runs.groupby([*PLACE, "seed"])["learning_rate"].nunique().rename("rates")
    seeds = runs.groupby([*PLACE, "learning_rate"])["seed"].nunique().rename("seeds")
    joined = chosen.join(rates, on=[*PLACE, "seed"]).join(seeds, on=[*PLACE, "learning_rate"])
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
    """Keep at most one row per cell, depth and seed: the run at the learning rate that is best for the other seeds.

    A seed is left out that lacks a run at that rate, and one that alone has a candidate, of which the others cannot
    tell how good it is. Where no two seeds have a rate in common, each is judged at its own best.
    """
    runs = runs.drop_duplicates([*PLACE, "learning_rate", "seed"]).reset_index(drop=True)
    candidates = _find_candidates(runs)
    shared_error = candidates["error"].where(candidates["shared"], 0.0)
    by_rate = candidates.assign(shared_error=shared_error).groupby([*PLACE, "learning_rate"], as_index=False)
    by_rate = by_rate.agg(
        most=("most", "first"),
        count=("error", "count"),
        total=("error", "sum"),
        shared_count=("shared", "sum"),
        shared_total=("shared_error", "sum"),
    )
    own = candidates[[*PLACE, "learning_rate", "seed", "error", "shared"]].reset_index(names="run")
    offers = runs[[*PLACE, "seed"]].drop_duplicates().merge(by_rate, on=PLACE)
    offers = offers.merge(own, how="left", on=[*PLACE, "learning_rate", "seed"])
    has_run, own_error = offers["run"].notna(), offers["error"].fillna(0.0)
    is_shared = has_run & offers["shared"].eq(True)
    paired = offers["shared_count"] - is_shared > 0
    others = np.where(paired, offers["shared_count"] - is_shared, offers["count"] - has_run)
    total = np.where(paired, offers["shared_total"] - own_error.where(is_shared, 0.0), offers["total"] - own_error)
    mean = np.where(offers["most"] > 1, total / np.maximum(others, 1), offers["error"].fillna(np.inf))
    offers = offers.assign(mean=np.round(mean, DECIMALS), alone=(others == 0) & (offers["most"] > 1))
    best = offers.sort_values(["mean", "learning_rate"], kind="stable").drop_duplicates([*PLACE, "seed"])
    is_judged = best["run"].notna() & ~offers.groupby([*PLACE, "seed"])["alone"].transform("any")[best.index]
    return runs.loc[best.loc[is_judged, "run"].astype(int)]
