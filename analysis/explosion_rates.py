"""Layers and trials → explosion rate of each architecture and epoch, with its interval, beside mean-field theory.

A network's growth is ln GSC(first stream state → logits) − ln GSC(last one → logits), which is a sum over its layers.
Layers of one network are correlated, seeds are not: growth per layer is taken per seed, and a t interval over seeds.
The endpoints are used, and no regression over layers, because of a sum of equal steps they are the best estimate of
the step, and because they are the rate that the study records. Check: GSC 1.2⁴⁸ at depth 50 gives r = 1.2.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.best_learning_rates import CELL, best_learning_rates
from analysis.estimates import Estimate, write_list
from analysis.tidy_frames import ARCHITECTURE, UNTRAINED, StudyFrames
from analysis.uncertainty import t_interval
from study.mean_field import predicted_explosion_rate, squared_growth_by_layer

RATE_COLUMNS = [
    "network", *ARCHITECTURE, "optimizer", "epoch", "depths", "seeds", "explosion_rate", "low", "high",
    "mean_field", "errors_from_mean_field", "note",
]  # fmt: skip
GROWTH_COLUMNS = [
    "run_id", "network", *UNTRAINED, "optimizer", "learning_rate", "epoch", "depth", "seed", "layers",
    "ln_growth", "ln_predicted",
]  # fmt: skip
TOO_SHALLOW = "no network of 3 layers or more was measured, and a rate needs two stream states"


@dataclasses.dataclass(frozen=True)
class RateEstimates:
    """`table` has RATE_COLUMNS, a row per architecture and epoch; `note` says why it is empty, when it is.

    At epoch 0 `optimizer` is empty, because nothing that matters in training alone has made a difference yet; after it
    `network` and `optimizer` are of a cell, so that weight decays, say, are not mixed. `low` and `high` are missing for
    one seed; `mean_field` where theory has no number, and after epoch 0; `note` says so. `errors_from_mean_field` is
    how many standard errors the measured ln r lies above the predicted one.
    """

    table: pd.DataFrame
    note: str = ""


def estimate_explosion_rates(
    frames: StudyFrames, epochs: Sequence[float] | None = (0.0,), late_half: bool = False
) -> RateEstimates:
    """Estimate the explosion rate of each architecture at given epochs (None: every whole epoch that was measured).

    After epoch 0 a row is of one network and optimizer, and of their best learning rate at each depth. `late_half`
    takes only the layers nearer to the logits, where the stream has forgotten how it began.
    """
    measured = frames.layers["epoch"].unique() if epochs is None else np.asarray(epochs, dtype=float)
    growths = [measure_growth(frames, epoch, late_half) for epoch in np.sort(measured) if epoch == round(epoch)]
    growths = [growth for growth in growths if len(growth)]
    if not growths:
        return RateEstimates(pd.DataFrame(columns=RATE_COLUMNS), f"There is no explosion rate: {TOO_SHALLOW}.")
    keys = ["network", *ARCHITECTURE, "optimizer", "epoch"]
    groups = pd.concat(growths, ignore_index=True).groupby(keys, sort=True)
    rows = [dict(zip(keys, key, strict=True)) | _estimate_row(growth) for key, growth in groups]
    table = pd.DataFrame(rows)[RATE_COLUMNS]
    return RateEstimates(table.sort_values(["epoch", "network", "dilution", "optimizer"], ignore_index=True))


def estimate_rate(ln_growth_per_layer: np.ndarray) -> Estimate:
    """Pool seeds' mean growth of ln GSC per layer, [seeds], into an explosion rate (a factor) with a t interval."""
    values = np.asarray(ln_growth_per_layer, dtype=float)
    values = values[np.isfinite(values)]
    if not len(values):
        return Estimate(note=TOO_SHALLOW)
    with np.errstate(over="ignore"):
        mean, low, high = np.exp(t_interval(values))
    note = "one seed: no interval" if len(values) == 1 else ""
    return Estimate(mean, low, high, "the interval ends beyond all numbers" if math.isinf(high) else note)


def measure_growth(frames: StudyFrames, epoch: float = 0.0, late_half: bool = False) -> pd.DataFrame:
    """Return per network of depth 3 or more the growth of ln GSC over its `layers`, and its prediction at epoch 0.

    Untrained networks that differ in the training to come alone are counted once; of trained ones the best learning
    rate of each cell and depth is taken. `network` is the name of what was told apart. A network in which nothing
    arrives at the first or the last of these stream states has no growth and is left out.
    """
    profiles = frames.layers[frames.layers["epoch"] == epoch].dropna(subset="log10_gsc")
    by_layer = profiles.drop_duplicates(["run_id", "layer"]).set_index(["run_id", "layer"])["log10_gsc"]
    networks = frames.trials[frames.trials["depth"] >= 3].copy()
    starts = np.maximum(networks["depth"] // 2, 1) if late_half else networks["depth"] * 0 + 1
    for end, layers in (("first", starts), ("last", networks["depth"] - 1)):
        places = pd.MultiIndex.from_arrays([networks["run_id"], layers.astype(float)])
        networks[end] = by_layer.reindex(places).to_numpy(dtype=float)
    networks["layers"] = networks["depth"] - 1 - starts
    networks["epoch"] = float(epoch)
    networks = networks[np.isfinite(networks["first"]) & np.isfinite(networks["last"]) & (networks["layers"] > 0)]
    if epoch == 0:
        networks = networks.drop_duplicates([*UNTRAINED, "depth", "seed"])
        networks = networks.assign(network=networks["untrained"], optimizer="", learning_rate=0.0)
    else:
        networks = networks.merge(best_learning_rates(frames.trials), on=[*CELL, "depth", "learning_rate"])
    networks["ln_growth"] = (networks["first"] - networks["last"]) * math.log(10)
    networks["ln_predicted"] = [
        _predict(trial, trial.layers) if epoch == 0 else math.nan for trial in networks.itertuples()
    ]
    return networks[GROWTH_COLUMNS].reset_index(drop=True)


def _estimate_row(growth: pd.DataFrame) -> dict[str, Any]:
    by_seed = growth.groupby("seed")[["ln_growth", "layers"]].sum()
    values = (by_seed["ln_growth"] / by_seed["layers"]).to_numpy()
    estimate = estimate_rate(values)
    predicted = growth.dropna(subset="ln_predicted").groupby("seed")[["ln_predicted", "layers"]].sum()
    # Weighted as the measured rate is: seeds alike, whatever the depths that each was trained at.
    ln_predicted = float((predicted["ln_predicted"] / predicted["layers"]).mean())
    error = values.std(ddof=1) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    notes = [estimate.note] if estimate.note else []
    if math.isnan(ln_predicted):
        notes.append("theory is of untrained networks" if growth["epoch"].iloc[0] else "theory has no number here")
    return {
        "depths": write_list(sorted(growth["depth"].unique())),
        "seeds": len(by_seed),
        **estimate.as_columns("explosion_rate", "low", "high"),
        "mean_field": math.exp(ln_predicted),
        "errors_from_mean_field": (values.mean() - ln_predicted) / error if error > 0 else math.nan,
        "note": "; ".join(notes),
    }


def _predict(trial: Any, layers: int) -> float:
    """Return the growth of ln GSC that theory says over the last `layers` layers of a row of `trials`."""
    try:
        growth = _predicted_growth(
            int(trial.depth),
            trial.activation,
            trial.normalization,
            trial.dilution,
            _as_gain(trial.gain),
            trial.initialization,
            int(trial.probe_size),
        )
    except KeyError:  # of a version that knows more
        return math.nan
    rate = predicted_explosion_rate(growth[len(growth) - layers :])
    return layers * math.log(rate) if rate > 0 else math.nan


@functools.lru_cache(maxsize=4096)
def _predicted_growth(*setting: Any) -> np.ndarray:
    return squared_growth_by_layer(*setting)


def _as_gain(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text
