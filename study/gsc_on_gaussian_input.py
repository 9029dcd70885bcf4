"""Options of `python -m study gsc` → GSC of untrained networks on Gaussian input, over seeds."""

import argparse
import json
import math
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from study.mean_field import predicted_explosion_rate
from study.network import PackedNetwork
from study.probes import probe_network
from study.random_streams import make_generator
from study.trial_config import TrialConfig


def run(options: argparse.Namespace, console: Console) -> None:
    """Measure and print. Raises ValueError for an option that is out of range."""
    for name in ("inputs", "outputs", "seeds"):
        if getattr(options, name) < 1:
            raise ValueError(f"{name}: {getattr(options, name)} is out of range; give at least 1")
    trials = [
        TrialConfig(
            depth=options.depth,
            width=options.width,
            activation=options.activation,
            normalization=options.normalization,
            dilution=options.dilution,
            initialization=options.initialization,
            gain=options.gain,
            seed=seed,
            batch_size=options.batch,
            probe_vectors=options.probe_vectors,
        )
        for seed in range(options.seeds)
    ]
    measured = measure(trials, inputs=options.inputs, outputs=options.outputs)
    if options.format == "json":
        console.print_json(json.dumps(measured, allow_nan=False))
    else:
        _print_table(measured, console)


def measure(trials: list[TrialConfig], *, inputs: int, outputs: int) -> dict[str, Any]:
    """Measure untrained networks of equal shape, one per seed, on standard normal inputs and random labels.

    Returns, ready for JSON: `log10_gsc` (input → logits), `log10_gsc_to_loss` and `explosion_rate`, each with mean
    and standard deviation over seeds (None for one seed) and the mean standard error of the estimate, if it has one;
    `predicted_explosion_rate` of mean-field theory; `log10_gsc_by_layer` for s = 0 … depth − 1, mean over seeds.
    """
    first = trials[0]
    draws = [make_generator(trial.seed, "gaussian inputs") for trial in trials]
    x = torch.stack([torch.randn(first.batch_size, inputs, generator=draw, dtype=torch.float64) for draw in draws])
    labels = torch.randint(0, outputs, (first.batch_size,), generator=make_generator(0, "random labels"))
    network = PackedNetwork(trials, inputs, outputs, dtype=torch.float64)
    probe = probe_network(
        network, x, labels, seeds=[trial.seed for trial in trials], moment=0, probe_vectors=first.probe_vectors
    )
    shape = ("depth", "width", "activation", "normalization", "dilution", "initialization", "gain")
    predicted = predicted_explosion_rate(first.depth, first.activation, first.normalization, first.dilution, first.gain)
    return {
        **{name: getattr(first, name) for name in shape},
        "inputs": inputs,
        "outputs": outputs,
        "batch": first.batch_size,
        "seeds": len(trials),
        "gsc_convention": "unsquared",
        "log10_gsc": _describe(probe.to_logits.log10_gsc[:, 0], probe.to_logits.standard_error[:, 0]),
        "log10_gsc_to_loss": _describe(probe.to_loss.log10_gsc[:, 0], probe.to_loss.standard_error[:, 0]),
        "explosion_rate": _describe(probe.explosion_rate),
        "predicted_explosion_rate": _finite(predicted),
        "log10_gsc_by_layer": [_finite(value) for value in probe.to_logits.log10_gsc.mean(dim=0).tolist()],
    }


def _describe(values: torch.Tensor, standard_error: torch.Tensor | None = None) -> dict[str, float | None]:
    described = {
        "mean": _finite(values.mean().item()),
        "standard_deviation": _finite(values.std().item()) if len(values) > 1 else None,
    }
    if standard_error is not None:
        described["probe_standard_error"] = _finite(standard_error.mean().item())
    return described


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _print_table(measured: dict[str, Any], console: Console) -> None:
    title = (
        f"{measured['normalization']}-{measured['activation']}, depth {measured['depth']}, width {measured['width']}, "
        f"k = {measured['dilution']:g}, {measured['initialization']}: {measured['seeds']} seeds"
    )
    table = Table(title=title, title_justify="left")
    for heading in ("quantity", "mean", "s.d. over seeds", "s.e. of the probes", "mean-field"):
        is_label = heading == "quantity"
        table.add_column(heading, justify="left" if is_label else "right", no_wrap=is_label)
    labels = {
        "log10_gsc": "log10 GSC, input → logits",
        "log10_gsc_to_loss": "log10 GSC, input → losses",
        "explosion_rate": "explosion rate per layer",
    }
    for key, label in labels.items():
        numbers = [measured[key].get(name) for name in ("mean", "standard_deviation", "probe_standard_error")]
        predicted = measured["predicted_explosion_rate"] if key == "explosion_rate" else None
        table.add_row(label, *("–" if number is None else f"{number:.4g}" for number in [*numbers, predicted]))
    console.print(table)
