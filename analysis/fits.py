"""Tidy frames → what is shown as it was measured: error tables, profiles of GSC over layers, error beside GSC."""

import numpy as np
import pandas as pd

from analysis.best_learning_rates import CELL, best_learning_rates
from analysis.tidy_frames import StudyFrames
from study import run_log_schema as schema

ERROR_COLUMNS = [
    "network", "optimizer", "dilution", "depth", "learning_rate", "seeds", "diverged",
    "train_error", "train_error_low", "train_error_high", "test_error", "test_error_low", "test_error_high",
]  # fmt: skip


def tabulate_final_errors(frames: StudyFrames) -> pd.DataFrame:
    """Return the final errors per network, optimizer, dilution and depth, at the best learning rate of each.

    The best learning rate is the one with the lowest mean final *training* error over the seeds that all candidates
    have, so that the test error is not selected upon; means are over all seeds of that rate, `low` and `high` are
    their extremes. Diverged trials count as chance; failed and unfinished ones do not count.
    """
    counted = frames.trials.dropna(subset="final_train_error")
    cell = [*CELL, "depth"]
    chosen = counted.merge(best_learning_rates(frames.trials), on=[*cell, "learning_rate"])
    by_cell = chosen.groupby([*cell, "learning_rate"]).agg(
        seeds=("seed", "nunique"),
        diverged=("status", lambda statuses: int((statuses == schema.STATUS_DIVERGED).sum())),
        train_error=("final_train_error", "mean"),
        train_error_low=("final_train_error", "min"),
        train_error_high=("final_train_error", "max"),
        test_error=("final_test_error", "mean"),
        test_error_low=("final_test_error", "min"),
        test_error_high=("final_test_error", "max"),
    )
    return by_cell.reset_index()[ERROR_COLUMNS]


def average_profiles(frames: StudyFrames) -> pd.DataFrame:
    """Return mean log10 GSC(s → logits) by layer at the first and last epoch of the deepest trials that were measured.

    Columns: network, optimizer, dilution, depth, moment ("before training", "after training"), layer, log10_gsc.
    After training, of each cell the best learning rate counts: rates that train nothing would hide what training did.
    Trials that diverged have no last epoch to compare and are left out of "after training".
    """
    measured = frames.trials[frames.trials["run_id"].isin(frames.layers["run_id"])]
    trials = measured[measured["depth"] == measured["depth"].max()]
    best = best_learning_rates(frames.trials).assign(is_best=True)
    trials = trials.merge(best, how="left", on=[*CELL, "depth", "learning_rate"])
    last_step = frames.layers.groupby("run_id")["step"].max().rename("last_step")
    profiles = frames.layers.merge(trials, on="run_id").merge(last_step, on="run_id")
    trained = (profiles["step"] == profiles["last_step"]) & (profiles["step"] > 0) & profiles["is_best"].notna()
    profiles["moment"] = np.select(
        [profiles["step"] == 0, trained & (profiles["status"] == schema.STATUS_OK)],
        ["before training", "after training"],
        default="",
    )
    group = ["network", "optimizer", "dilution", "depth", "moment", "layer"]
    return profiles[profiles["moment"] != ""].groupby(group)["log10_gsc"].mean().reset_index()


def pair_error_with_gsc(frames: StudyFrames) -> pd.DataFrame:
    """Return, per trial that ended well or diverged, its GSC before training beside its final errors."""
    columns = ["name", "network", "optimizer", "dilution", "depth", "learning_rate", "seed", "status"]
    measured = frames.trials.dropna(subset=["initial_log10_gsc", "final_train_error"])
    return measured[[*columns, "initial_log10_gsc", "final_train_error", "final_test_error"]].reset_index(drop=True)
