"""A factory of untrained models, called once per seed → a measurement of their GSC."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from study.gsc_measurement import (
    LAYER_COLUMNS,
    Estimate,
    GscMeasurement,
    deviation,
    estimate,
    finite_or_none,
    put_together,
)
from study.model_gsc import LayerGsc, ModelGsc, measure_gsc, say_bypassed
from study.random_streams import make_generator
from study.signal_domain import DOMAIN_METRICS


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
    dtype: torch.dtype = torch.float64,
) -> GscMeasurement:
    """Measure the models that a factory makes, one per seed, on standard normal inputs.

    The loss is the cross-entropy with random labels of `classes` classes, where the output is [batch, at least
    `classes`]; elsewhere there is none.

    Raises:
        ValueError: a model cannot be made or measured, for a reason given in one line.
    """
    labels = torch.randint(0, classes, (batch,), generator=make_generator(0, "random labels"))

    def losses(logits: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(logits, labels.to(logits.device), reduction="none")

    to_output: list[ModelGsc] = []
    to_loss: list[ModelGsc] = []
    for seed in range(seeds):
        x = torch.randn(batch, *input_shape, generator=make_generator(seed, "gaussian inputs"))
        with torch.random.fork_rng([]):
            torch.manual_seed(seed)
            model = make_model()
        options: dict[str, Any] = {"probe_vectors": probe_vectors, "seed": seed, "dtype": dtype}
        to_output.append(measure_gsc(model, x, modules=modules, **options))
        if [layer.name for layer in to_output[-1].layers] != [layer.name for layer in to_output[0].layers]:
            raise ValueError(f"model: {name} makes other layers with another seed; measure each with --seeds 1")
        shape = to_output[-1].output_shape
        if len(shape) == 2 and shape[0] == batch and shape[1] >= classes:
            to_loss.append(measure_gsc(model, x, loss=losses, modules=[""], **options))
    rows = list(zip(*(measured.layers for measured in to_output), strict=True))
    return put_together(
        subject=name,
        settings={"model": name, "input": list(input_shape), "classes": classes, "batch": batch, "seeds": seeds},
        log10_gsc=_estimate_from_input(to_output),
        log10_gsc_to_loss=_estimate_from_input(to_loss) if to_loss else None,
        rates=np.array([measured.explosion_rate for measured in to_output]),
        predicted=None,
        growth=[],
        layers=[_average(row) for row in rows],
        depth=f"over {sum(layer.on_path for layer in to_output[0].layers)} states",
        remarks=[*say_bypassed(to_output[0].bypassed), *([] if to_loss else [_explain_no_loss(to_output[0], classes)])],
    )


def _explain_no_loss(measured: ModelGsc, classes: int) -> str:
    return f"no losses: the output {list(measured.output_shape)} is no logits of {classes} classes"


def _estimate_from_input(measured: list[ModelGsc]) -> Estimate:
    first = [one.layers[0] for one in measured]
    return estimate(np.array([row.log10_gsc for row in first]), np.array([row.standard_error for row in first]))


def _average(row: Sequence[LayerGsc]) -> dict[str, Any]:
    """Average one state over seeds: a row of LAYER_COLUMNS."""
    log10_gsc = np.array([layer.log10_gsc for layer in row])
    average = {
        **dataclasses.asdict(row[0]),
        "log10_gsc": finite_or_none(log10_gsc.mean()),
        "standard_deviation": deviation(log10_gsc),
        "standard_error": finite_or_none(float(np.mean([layer.standard_error for layer in row]))),
    }
    for column in DOMAIN_METRICS:
        if average[column] is not None:
            average[column] = finite_or_none(float(np.mean([getattr(layer, column) for layer in row])))
    return {column: average[column] for column in LAYER_COLUMNS}
