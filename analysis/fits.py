"""Tidy frames → estimates: explosion rates, error tables, profiles of GSC over layers. Pure: frames in, frames out."""

import math
from typing import Any

import numpy as np
import pandas as pd

from analysis.tidy_frames import ARCHITECTURE, StudyFrames
from analysis.uncertainty import t_interval
from study import run_log_schema as schema
from study.mean_field import predicted_explosion_rate, squared_growth_by_layer

RATE_COLUMNS = [
    "network", *ARCHITECTURE, "depths", "seeds", "explosion_rate", "low", "high", "mean_field",
]  # fmt: skip
ERROR_COLUMNS = [
    "network", "optimizer", "dilution", "depth", "learning_rate", "seeds", "diverged",
    "train_error", "train_error_low", "train_error_high", "test_error", "test_error_low", "test_error_high",
]  # fmt: skip


def fit_explosion_rates(frames: StudyFrames) -> pd.DataFrame:
    """Estimate the explosion rate before training, per architecture, beside its mean-field value.

    A seed's rate is its growth of ln GSC(s → logits) between the first and the last stream state, summed over its
    depths, per layer. `low` and `high` are a 95% t interval over seeds (missing for one seed): layers of one network
    are correlated, seeds are not. Trials that differ in the optimizer alone start as the same network, counted once.
    """
    rows = []
    for (name, *architecture), growth in initial_growth(frames).groupby(["architecture", *ARCHITECTURE], sort=True):
        by_seed = growth.groupby("seed")[["ln_growth", "layers"]].sum()
        predicted = growth.dropna(subset="ln_predicted")
        mean, low, high = t_interval(by_seed["ln_growth"] / by_seed["layers"])
        fields = dict(zip(ARCHITECTURE, architecture, strict=True))
        rows.append(
            {
                "network": name,
                **fields,
                "depths": ", ".join(str(depth) for depth in sorted(growth["depth"].unique())),
                "seeds": len(by_seed),
                "explosion_rate": math.exp(mean),
                "low": math.exp(low),
                "high": math.exp(high),
                "mean_field": math.exp(predicted["ln_predicted"].sum() / predicted["layers"].sum())
                if len(predicted)
                else math.nan,
            }
        )
    return pd.DataFrame(rows, columns=RATE_COLUMNS)


def initial_growth(frames: StudyFrames) -> pd.DataFrame:
    """Return, per untrained network of depth 3 or more, the growth of ln GSC over its `layers`, and its prediction.

    A network in which nothing arrives at the first or the last stream state has no growth and is left out.
    """
    profiles = frames.layers[frames.layers["step"] == 0].dropna(subset="log10_gsc")
    by_layer = profiles.set_index(["run_id", "layer"])["log10_gsc"]
    networks = frames.trials[frames.trials["depth"] >= 3].copy()
    for end, layers in (("first", networks["depth"] * 0 + 1.0), ("last", networks["depth"] - 1.0)):
        networks[end] = by_layer.reindex(pd.MultiIndex.from_arrays([networks["run_id"], layers])).to_numpy()
    networks = networks.dropna(subset=["first", "last"])
    networks = networks.drop_duplicates([*ARCHITECTURE, "depth", "seed"]).reset_index(drop=True)
    networks["layers"] = networks["depth"] - 2
    networks["ln_growth"] = (networks["first"] - networks["last"]) * math.log(10)
    networks["ln_predicted"] = [(trial.depth - 2) * math.log(_predict_rate(trial)) for trial in networks.itertuples()]
    return networks[["architecture", *ARCHITECTURE, "depth", "seed", "layers", "ln_growth", "ln_predicted"]]


def tabulate_final_errors(frames: StudyFrames) -> pd.DataFrame:
    """Return the final errors per network, optimizer, dilution and depth, at the best learning rate of each.

    The best learning rate is the one with the lowest mean final *training* error over seeds, so that the test error
    is not selected upon; rates that fewer seeds have finished than others are no candidates. `low` and `high` are the
    extremes over seeds. Diverged trials count as chance; failed and unfinished ones do not count.
    """
    counted = frames.trials.dropna(subset="final_train_error")
    cell = ["network", "optimizer", "dilution", "depth"]
    by_rate = counted.groupby([*cell, "learning_rate"]).agg(
        seeds=("seed", "nunique"),
        diverged=("status", lambda statuses: int((statuses == schema.STATUS_DIVERGED).sum())),
        train_error=("final_train_error", "mean"),
        train_error_low=("final_train_error", "min"),
        train_error_high=("final_train_error", "max"),
        test_error=("final_test_error", "mean"),
        test_error_low=("final_test_error", "min"),
        test_error_high=("final_test_error", "max"),
    )
    complete = by_rate[by_rate["seeds"] == by_rate.groupby(cell)["seeds"].transform("max")]
    best = complete.reset_index().sort_values("train_error", kind="stable").drop_duplicates(cell)
    return best.sort_values(cell)[ERROR_COLUMNS].reset_index(drop=True)


def average_profiles(frames: StudyFrames) -> pd.DataFrame:
    """Return mean log10 GSC(s → logits) by layer at the first and last epoch of the deepest trials that were measured.

    Columns: network, optimizer, dilution, depth, moment ("before training", "after training"), layer, log10_gsc.
    Trials that diverged have no last epoch to compare and are left out of "after training".
    """
    measured = frames.trials[frames.trials["run_id"].isin(frames.layers["run_id"])]
    trials = measured[measured["depth"] == measured["depth"].max()]
    last_step = frames.layers.groupby("run_id")["step"].max().rename("last_step")
    profiles = frames.layers.merge(trials, on="run_id").merge(last_step, on="run_id")
    trained = (profiles["step"] == profiles["last_step"]) & (profiles["step"] > 0)
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


def _predict_rate(trial: Any) -> float:
    """Return the rate of mean-field theory for a row of `trials`, at the size of its probe batch."""
    growth = squared_growth_by_layer(
        trial.depth,
        trial.activation,
        trial.normalization,
        trial.dilution,
        _as_gain(trial.gain),
        trial.initialization,
        trial.probe_size,
    )
    return predicted_explosion_rate(growth)


def _as_gain(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text
