"""Untrained networks, one per seed → what is known of their GSC: a measurement with its spread, theory and a reading.

The study's own networks get standard normal inputs and random labels and are measured like trials; others come from a
factory and are measured by `study.model_gsc`.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from scipy import stats

from study.mean_field import predicted_explosion_rate, predicted_trainable_depth, squared_growth_by_layer
from study.model_gsc import ModelGsc, measure_gsc
from study.network import PackedNetwork
from study.probes import probe_network
from study.random_streams import make_generator
from study.trial_config import TrialConfig

DOMAIN_COLUMNS = ("preactivation_std", "sign_diversity", "linear_fit_error")
LAYER_COLUMNS = (
    "layer",
    "name",
    "width",
    "on_path",
    "log10_gsc",
    "standard_deviation",
    "standard_error",
    *DOMAIN_COLUMNS,
)
EXPLODES = 1.005
"""Rates nearer to 1 than this are called neither exploding nor shrinking: it is 28% over 50 layers."""


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


def measure_networks(trials: Sequence[TrialConfig], *, inputs: int, outputs: int) -> GscMeasurement:
    """Measure the study's networks, untrained, of equal fields but for the seed.

    `batch_size` of the trials is that of the probes. Trials are measured one after the other, to bound the memory.
    """
    first = trials[0]
    labels = torch.randint(0, outputs, (first.batch_size,), generator=make_generator(0, "random labels"))
    probes = []
    for trial in trials:
        draw = make_generator(trial.seed, "gaussian inputs")
        x = torch.randn(trial.batch_size, inputs, generator=draw, dtype=torch.float64)
        network = PackedNetwork([trial], inputs, outputs, dtype=torch.float64)
        vectors = trial.probe_vectors
        probes.append(probe_network(network, x, labels, seeds=[trial.seed], moment=0, probe_vectors=vectors))
    log10_gsc = np.concatenate([probe.to_logits.log10_gsc for probe in probes])
    error = np.concatenate([probe.to_logits.standard_error for probe in probes])
    domain = {name: np.concatenate([probe.domain[name] for probe in probes]) for name in DOMAIN_COLUMNS}
    layers = [
        {
            "layer": layer,
            "name": "input" if layer == 0 else f"v_{layer}",
            "width": inputs if layer == 0 else first.width,
            "on_path": layer > 0,
            "log10_gsc": _finite(log10_gsc[:, layer].mean()),
            "standard_deviation": _deviation(log10_gsc[:, layer]),
            "standard_error": _finite(error[:, layer].mean()),
            **{name: None if layer == 0 else _finite(values[:, layer - 1].mean()) for name, values in domain.items()},
        }
        for layer in range(first.depth)
    ]
    theory = (first.activation, first.normalization, first.dilution, first.gain, first.initialization, first.batch_size)
    predicted = _finite(predicted_explosion_rate(first.depth, *theory))
    growth = squared_growth_by_layer(first.depth, *theory) if predicted is not None else np.empty(0)
    names = ("depth", "width", "activation", "normalization", "dilution", "initialization", "gain")
    return _put_together(
        subject=f"{first.normalization}-{first.activation}, depth {first.depth}, width {first.width}, "
        f"k = {first.dilution:g}, {first.initialization}",
        settings={name: getattr(first, name) for name in names}
        | {"inputs": inputs, "outputs": outputs, "batch": first.batch_size, "seeds": len(trials)},
        log10_gsc=_estimate(log10_gsc[:, 0], error[:, 0]),
        log10_gsc_to_loss=_estimate(
            np.array([probe.to_loss.log10_gsc[0, 0].item() for probe in probes]),
            np.array([probe.to_loss.standard_error[0, 0].item() for probe in probes]),
        ),
        rates=np.array([probe.explosion_rate.item() for probe in probes]),
        predicted=predicted,
        growth=(0.5 * np.log10(growth)).tolist(),
        layers=layers,
        depth=f"at depth {first.depth}",
    )


def measure_model(
    make_model: Callable[[], torch.nn.Module],
    name: str,
    *,
    input_shape: Sequence[int],
    batch: int,
    classes: int,
    seeds: int,
    probe_vectors: int,
    modules: Sequence[str] | None = None,
) -> GscMeasurement:
    """Measure the models that a factory makes, one per seed, on standard normal inputs.

    The loss is the cross-entropy with random labels of `classes` classes, where the output is [batch, at least
    `classes`]; elsewhere there is none.

    Raises:
        ValueError: a model cannot be made or measured, for a reason given in one line.
    """
    labels = torch.randint(0, classes, (batch,), generator=make_generator(0, "random labels"))

    def losses(logits: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(logits, labels, reduction="none")

    to_output: list[ModelGsc] = []
    to_loss: list[ModelGsc] = []
    for seed in range(seeds):
        x = torch.randn(batch, *input_shape, generator=make_generator(seed, "gaussian inputs"))
        with torch.random.fork_rng([]):
            torch.manual_seed(seed)
            model = make_model()
        to_output.append(measure_gsc(model, x, modules=modules, probe_vectors=probe_vectors, seed=seed))
        if [layer.name for layer in to_output[-1].layers] != [layer.name for layer in to_output[0].layers]:
            raise ValueError(f"model: {name} makes other layers with another seed; measure each with --seeds 1")
        shape = to_output[-1].output_shape
        if len(shape) == 2 and shape[0] == batch and shape[1] >= classes:
            to_loss.append(measure_gsc(model, x, loss=losses, probe_vectors=probe_vectors, seed=seed, modules=[""]))
    rows = list(zip(*(measured.layers for measured in to_output), strict=True))
    log10_gsc = np.array([[layer.log10_gsc for layer in row] for row in rows])
    layers = [
        {
            **dataclasses.asdict(row[0]),
            "log10_gsc": _finite(values.mean()),
            "standard_deviation": _deviation(values),
            "standard_error": _finite(np.mean([layer.standard_error for layer in row])),
            **{
                column: None
                if getattr(row[0], column) is None
                else _finite(np.mean([getattr(layer, column) for layer in row]))
                for column in DOMAIN_COLUMNS
            },
        }
        for row, values in zip(rows, log10_gsc, strict=True)
    ]
    return _put_together(
        subject=name,
        settings={"model": name, "input": list(input_shape), "classes": classes, "batch": batch, "seeds": seeds},
        log10_gsc=_estimate(log10_gsc[0], np.array([layer.standard_error for layer in rows[0]])),
        log10_gsc_to_loss=_estimate(
            np.array([measured.layers[0].log10_gsc for measured in to_loss]),
            np.array([measured.layers[0].standard_error for measured in to_loss]),
        )
        if to_loss
        else None,
        rates=np.array([measured.explosion_rate for measured in to_output]),
        predicted=None,
        growth=[],
        layers=[{column: layer[column] for column in LAYER_COLUMNS} for layer in layers],
        depth=f"over {sum(layer.on_path for layer in to_output[0].layers)} states",
    )


def _put_together(
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
) -> GscMeasurement:
    rate = _estimate_rate(rates)
    trainable = None if rate.mean is None else _finite(predicted_trainable_depth(rate.mean))
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
        reading=read_aloud(rate, log10_gsc.mean, predicted, depth, "state" if "model" in settings else "layer"),
    )


def read_aloud(
    rate: Estimate, log10_gsc: float | None, predicted: float | None, depth: str, unit: str = "layer"
) -> str:
    """Say in words what numbers mean: `explodes: ×1.21 per layer; GSC 8·10³ at depth 50; …`."""
    parts = []
    above = below = False
    if rate.mean is None:
        what = "no GSC: a state or gradient vanishes or leaves the range of numbers" if log10_gsc is None else ""
        parts.append(what or "no rate: gradients reach fewer than two inner layers")
    else:
        above = rate.mean > EXPLODES and (rate.low is None or rate.low > 1)
        below = rate.mean < 1 / EXPLODES and (rate.high is None or rate.high < 1)
        near = 1 / EXPLODES <= rate.mean <= EXPLODES
        verdict = (
            "explodes" if above else "shrinks" if below else "neither explodes nor shrinks" if near else "undecided"
        )
        interval = "" if rate.low is None else f" ({rate.low:.3f} to {rate.high:.3f})"
        unsure = " (one seed)" if rate.low is None else interval if verdict == "undecided" else ""
        parts.append(f"{verdict}: ×{rate.mean:.3f} per {unit}{unsure}")
    if log10_gsc is not None:
        parts.append(f"GSC {write_power(log10_gsc)} {depth}")
    if predicted is not None:
        parts.append(f"theory ×{predicted:.3f}")
    if rate.mean is not None and above:
        trainable = f"{predicted_trainable_depth(rate.mean):.0f}"
        parts.append(
            f"trainable to about depth {trainable}" if unit == "layer" else f"trainable to about {trainable} {unit}s"
        )
    return "; ".join(parts)


def write_power(log10_value: float) -> str:
    """Write 3.9 as `8·10³`, 0.2 as `1.6`."""
    if -1 < log10_value < 3:
        return f"{10**log10_value:.2g}" if log10_value < 2 else f"{10**log10_value:.0f}"
    exponent = math.floor(log10_value)
    mantissa = round(10 ** (log10_value - exponent))
    if mantissa == 10:
        mantissa, exponent = 1, exponent + 1
    return f"{mantissa}·10{str(exponent).translate(str.maketrans('-0123456789', '⁻⁰¹²³⁴⁵⁶⁷⁸⁹'))}"


def _estimate(values: np.ndarray, errors: np.ndarray) -> Estimate:
    low, high = _t_interval(values)
    return Estimate(_finite(values.mean()), _deviation(values), low, high, _finite(errors.mean()))


def _estimate_rate(rates: np.ndarray) -> Estimate:
    """Average rates as factors: geometric mean, and the interval of the mean logarithm."""
    if not (np.isfinite(rates) & (rates > 0)).all():
        return Estimate(None, None, None, None)
    low, high = _t_interval(np.log(rates))
    return Estimate(
        float(np.exp(np.log(rates).mean())),
        _deviation(rates),
        None if low is None else math.exp(low),
        None if high is None else math.exp(high),
    )


def _t_interval(values: np.ndarray) -> tuple[float | None, float | None]:
    if len(values) < 2:
        return None, None
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values))
    return _finite(values.mean() - half), _finite(values.mean() + half)


def _deviation(values: np.ndarray) -> float | None:
    return _finite(values.std(ddof=1)) if len(values) > 1 else None


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
