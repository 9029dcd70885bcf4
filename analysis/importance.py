"""Trials → which parameters the final error depends on: exact shares of variance, or PED-ANOVA where sampled."""

import dataclasses
import math

import numpy as np
import pandas as pd

from analysis.ped_anova import rank_parameters
from analysis.tidy_frames import CONDITIONS, StudyFrames
from analysis.variance_shares import Plots, split_variance
from study import run_log_schema as schema

SHARE_COLUMNS = ["term", "order", "share", "low", "high", "note"]
SHARES, PED_ANOVA = "shares of variance", "PED-ANOVA"
FIRST_CHOICE = ("optimizer", "learning_rate", "depth", "dilution", "activation", "normalization")
"""Of parameters that always change together, the first of these stands for all."""
LEAST_KEPT, LEAST_FILLED = 0.5, 0.25
"""Of the trials, and of the combinations of values, for a space to be taken as a factorial one."""
ONE_NETWORK = [name for name in schema.PARAM_TYPES if name not in CONDITIONS]
"""What trials of one network and seed have in common, learning rate and optimizer included: they hang together."""
MOST_REPLICATES_OF_PED_ANOVA = 50
ABOUT_PED_ANOVA = (
    "Shares are of main effects alone. They add up to 1 even where nothing matters: a share says something where it is "
    "larger than 95% of those that errors give when networks exchange them, and else has a note."
)


@dataclasses.dataclass(frozen=True)
class Importance:
    """`table` has SHARE_COLUMNS, largest share first.

    `method` is SHARES on a factorial space: main effects and two-way terms, what is left of higher order
    ("higher orders"), and the variance over seeds ("seeds"), with 95% intervals; see `Shares`. It is PED_ANOVA
    on a sampled one: relative importances of reaching the best tenth, which add up to 1, with bootstrap intervals.
    `trials` is how many entered; `note` says what was left out, or why there is nothing.
    """

    table: pd.DataFrame
    method: str
    trials: int
    note: str = ""


def estimate_importance(frames: StudyFrames, replicates: int = 200) -> Importance:
    """Say which parameters the final training error depends on, by the method that suits the space.

    A space is factorial if every combination of its parameters' values was trained (learning rates count by their
    place among those of their optimizer). Values whose trials are not complete are left out, if half of all stay.
    """
    ended = frames.trials[np.isfinite(frames.trials["final_train_error"].astype(float))].reset_index(drop=True)
    if ended.empty:
        return _say_nothing(f"Nothing is known of importance: none of {len(frames.trials)} trials has a final error.")
    ranked = _list_factors(ended.assign(learning_rate=_place_learning_rates(ended)))
    if ranked.columns.empty:
        return _say_nothing("Nothing is known of importance: no parameter but the seed varies.")
    if _looks_factorial(ranked):
        kept, left_out = _keep_complete(ranked)
        if kept.sum() >= LEAST_KEPT * len(ended):
            return _share_variance(ranked[kept], ended[kept], left_out, replicates)
    return _rank_sampled(_list_factors(ended), ended, replicates)


def _place_learning_rates(trials: pd.DataFrame) -> pd.Series:
    """Return each learning rate's place, from 1, among those of its optimizer."""
    return trials.groupby("optimizer")["learning_rate"].rank(method="dense").astype(int)


def _list_factors(trials: pd.DataFrame) -> pd.DataFrame:
    """Return the parameters that vary, without the seed and without those that change with others."""
    others = [name for name in schema.PARAM_TYPES if name not in (*FIRST_CHOICE, "seed")]
    kept: list[str] = []
    for name in (*FIRST_CHOICE, *others):
        if trials[name].nunique() < 2:
            continue
        if not any(_change_together(trials, name, first) for first in kept):
            kept.append(name)
    return trials[kept]


def _change_together(trials: pd.DataFrame, name: str, other: str) -> bool:
    """Whether each value of one parameter goes with one value of the other, and values come several times."""
    pairs = len(trials[[name, other]].drop_duplicates())
    return pairs == trials[name].nunique() == trials[other].nunique() and pairs <= len(trials) / 4


def _looks_factorial(factors: pd.DataFrame) -> bool:
    combinations = math.prod(factors[name].nunique() for name in factors)
    return len(factors.drop_duplicates()) >= LEAST_FILLED * combinations


def _keep_complete(factors: pd.DataFrame) -> tuple[np.ndarray, list[str]]:
    """Leave out values, most incomplete first, until every combination of the others is there."""
    kept = np.ones(len(factors), dtype=bool)
    left_out: list[str] = []
    while True:
        cells = factors[kept].drop_duplicates()
        levels = {name: cells[name].nunique() for name in factors}
        if not kept.any() or len(cells) == math.prod(levels.values()):
            return kept, left_out
        shares = {
            (name, value): count * levels[name] / math.prod(levels.values())
            for name in factors
            for value, count in cells[name].value_counts().items()
        }
        name, value = min(shares, key=lambda place: shares[place])
        kept &= (factors[name] != value).to_numpy()
        left_out.append(f"{name} = {value}")


def _share_variance(factors: pd.DataFrame, ended: pd.DataFrame, left_out: list[str], replicates: int) -> Importance:
    errors = ended["final_train_error"]
    names = [name for name in factors if factors[name].nunique() > 1]
    if not names:
        return _say_nothing("Nothing is known of importance: what is complete does not vary.")
    means, variances, seeds = _tabulate_cells(factors[names], errors)
    # Under all conditions a network has one mean for each seed.
    networks = factors[names].assign(**{name: 0 for name in names if name in CONDITIONS}, seed=ended["seed"])
    by_seed = errors.groupby([networks[name] for name in networks]).mean().reset_index()
    _, between, plots = _tabulate_cells(by_seed[names], by_seed["final_train_error"])
    shares = split_variance(names, means, variances, seeds, replicates, plots=Plots(between, plots))
    if shares is None:
        return _say_nothing(f"Nothing is known of importance: all {len(errors)} final errors are the same.")
    table = pd.DataFrame(
        {"term": shares.terms, "order": shares.order, "share": shares.share, "low": shares.low, "high": shares.high}
    ).assign(note="")
    notes = []
    if np.isnan(shares.low).all():
        table = table[table["term"] != "seeds"]
        notes.append("One seed of each: luck cannot be told from what parameters do, and there are no intervals.")
    if left_out:
        notes.append(f"Left out, because trials are missing there: {', '.join(left_out)}.")
    table = table.sort_values("share", ascending=False, kind="stable", ignore_index=True)
    return Importance(table[SHARE_COLUMNS], SHARES, len(errors), " ".join(notes))


def _tabulate_cells(factors: pd.DataFrame, errors: pd.Series) -> list[np.ndarray]:
    """Return mean, variance and count of the errors [levels of factor 1, levels of factor 2, …]."""
    cells = errors.groupby([factors[name] for name in factors], sort=True).agg(["mean", "var", "size"])
    shape = tuple(factors[name].nunique() for name in factors)
    return [cells[name].to_numpy(dtype=float).reshape(shape) for name in ("mean", "var", "size")]


def _rank_sampled(factors: pd.DataFrame, ended: pd.DataFrame, replicates: int) -> Importance:
    errors = ended["final_train_error"].to_numpy(dtype=float)
    networks = ended.groupby(ONE_NETWORK, sort=False).ngroup().to_numpy()
    try:
        table = rank_parameters(factors, errors, networks, min(replicates, MOST_REPLICATES_OF_PED_ANOVA))
    except ValueError as error:
        return _say_nothing(f"Nothing is known of importance: {error}.")
    if table["share"].sum() == 0:
        return _say_nothing("Nothing is known of importance: the best trials are spread like all others.")
    notes = [
        f"no more than errors that do not depend on it can give ({row.chance:.2g})" if row.share <= row.chance else ""
        for row in table.itertuples()
    ]
    table = table.assign(order=1, note=notes).sort_values("share", ascending=False, kind="stable", ignore_index=True)
    return Importance(table[SHARE_COLUMNS], PED_ANOVA, len(errors), ABOUT_PED_ANOVA)


def _say_nothing(note: str) -> Importance:
    return Importance(pd.DataFrame(columns=SHARE_COLUMNS), "", 0, note)
