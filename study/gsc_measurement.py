"""Values of networks that differ in their seed → a measurement of GSC: estimates with intervals, layers, a reading."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

from study.gsc_reading import read_aloud
from study.mean_field import predicted_trainable_depth
from study.signal_domain import DOMAIN_METRICS

LAYER_COLUMNS = (
    "layer",
    "name",
    "width",
    "on_path",
    "log10_gsc",
    "standard_deviation",
    "standard_error",
    *DOMAIN_METRICS,
)


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A quantity over networks that differ in their seed alone; None for what is not known.

    `low` and `high` are a 95% t interval of its mean; `probe_standard_error` the mean error of one network's value.
    """

    mean: float | None
    standard_deviation: float | None
    low: float | None
    high: float | None
    probe_standard_error: float | None = None


@dataclasses.dataclass(frozen=True)
class GscMeasurement:
    """What was measured: `subject` says of what, `settings` under which conditions.

    `layers` are rows of LAYER_COLUMNS, means over seeds. `predicted_explosion_rate` is that of mean-field theory, None
    where there is none, and `predicted_log10_growth` what it says of each layer, v_1 → v_2 first. Logarithms are base
    10, GSC is unsquared.
    """

    subject: str
    settings: dict[str, Any]
    log10_gsc: Estimate
    log10_gsc_to_loss: Estimate | None
    explosion_rate: Estimate
    predicted_explosion_rate: float | None
    predicted_log10_growth: list[float]
    trainable_depth: float | None
    layers: list[dict[str, Any]]
    reading: str

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        fields = dataclasses.asdict(self)
        settings = fields.pop("settings")
        by_layer = [layer["log10_gsc"] for layer in self.layers]
        return {**settings, **fields, "gsc_convention": "unsquared", "log10_gsc_by_layer": by_layer}


def put_together(
    *,
    subject: str,
    settings: dict[str, Any],
    log10_gsc: Estimate,
    log10_gsc_to_loss: Estimate | None,
    rates: np.ndarray,
    predicted: float | None,
    growth: list[float],
    layers: list[dict[str, Any]],
    depth: str,
    remarks: Sequence[str] = (),
) -> GscMeasurement:
    """Add to what was measured what follows from it: the mean rate, the trainable depth and a reading in words.

    `remarks` are added to the reading.
    """
    rate = estimate_rate(rates)
    trainable = None if rate.mean is None else finite_or_none(predicted_trainable_depth(rate.mean))
    reading = read_aloud(
        rate.mean,
        None if rate.low is None or rate.high is None else (rate.low, rate.high),
        log10_gsc.mean,
        predicted,
        depth,
        "state" if "model" in settings else "layer",
    )
    return GscMeasurement(
        subject=subject,
        settings=settings,
        log10_gsc=log10_gsc,
        log10_gsc_to_loss=log10_gsc_to_loss,
        explosion_rate=rate,
        predicted_explosion_rate=predicted,
        predicted_log10_growth=growth,
        trainable_depth=trainable,
        layers=layers,
        reading="; ".join([reading, *remarks]),
    )


def estimate(values: np.ndarray, errors: np.ndarray) -> Estimate:
    """Average values over seeds, and their probes' standard errors."""
    low, high = _t_interval(values)
    return Estimate(finite_or_none(values.mean()), deviation(values), low, high, finite_or_none(errors.mean()))


def estimate_rate(rates: np.ndarray) -> Estimate:
    """Average rates as factors: geometric mean, and the interval of the mean logarithm."""
    if not (np.isfinite(rates) & (rates > 0)).all():
        return Estimate(None, None, None, None)
    low, high = _t_interval(np.log(rates))
    return Estimate(
        float(np.exp(np.log(rates).mean())),
        deviation(rates),
        None if low is None else math.exp(low),
        None if high is None else math.exp(high),
    )


def _t_interval(values: np.ndarray) -> tuple[float | None, float | None]:
    if len(values) < 2:
        return None, None
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values))
    return finite_or_none(values.mean() - half), finite_or_none(values.mean() + half)


def deviation(values: np.ndarray) -> float | None:
    """Return the standard deviation over seeds, None for one seed."""
    return finite_or_none(values.std(ddof=1)) if len(values) > 1 else None


def finite_or_none(value: float) -> float | None:
    """Return a plain number, None for one that is not finite."""
    return float(value) if math.isfinite(value) else None
