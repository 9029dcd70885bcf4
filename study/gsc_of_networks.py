"""Untrained networks of the study, one per seed → a measurement of their GSC, with theory beside it."""

from collections.abc import Sequence

import numpy as np
import torch

from study.gsc_measurement import GscMeasurement, deviation, estimate, finite_or_none, put_together
from study.mean_field import predicted_explosion_rate, squared_growth_by_layer
from study.network import PackedNetwork
from study.probes import probe_network
from study.random_streams import make_generator
from study.signal_domain import DOMAIN_METRICS
from study.trial_config import TrialConfig


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
    domain = {name: np.concatenate([probe.domain[name] for probe in probes]) for name in DOMAIN_METRICS}
    layers = [
        {
            "layer": layer,
            "name": "input" if layer == 0 else f"v_{layer}",
            "width": inputs if layer == 0 else first.width,
            "on_path": layer > 0,
            "log10_gsc": finite_or_none(log10_gsc[:, layer].mean()),
            "standard_deviation": deviation(log10_gsc[:, layer]),
            "standard_error": finite_or_none(error[:, layer].mean()),
            **{
                name: None if layer == 0 else finite_or_none(values[:, layer - 1].mean())
                for name, values in domain.items()
            },
        }
        for layer in range(first.depth)
    ]
    theory = (first.activation, first.normalization, first.dilution, first.gain, first.initialization, first.batch_size)
    growth = squared_growth_by_layer(first.depth, *theory)
    predicted = finite_or_none(predicted_explosion_rate(growth))
    names = ("depth", "width", "activation", "normalization", "dilution", "initialization", "gain")
    return put_together(
        subject=f"{first.normalization}-{first.activation}, depth {first.depth}, width {first.width}, "
        f"k = {first.dilution:g}, {first.initialization}",
        settings={name: getattr(first, name) for name in names}
        | {"inputs": inputs, "outputs": outputs, "batch": first.batch_size, "seeds": len(trials)},
        log10_gsc=estimate(log10_gsc[:, 0], error[:, 0]),
        log10_gsc_to_loss=estimate(
            np.array([probe.to_loss.log10_gsc[0, 0].item() for probe in probes]),
            np.array([probe.to_loss.standard_error[0, 0].item() for probe in probes]),
        ),
        rates=np.array([probe.explosion_rate.item() for probe in probes]),
        predicted=predicted,
        growth=(0.5 * np.log10(growth)).tolist() if predicted is not None else [],
        layers=layers,
        depth=f"at depth {first.depth}",
    )
