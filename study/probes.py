"""A packed network and a probe batch → every measurement of one moment: GSC and collapsing domain, layer by layer.

Measured in float64, with training-mode normalization and running statistics untouched.
"""

import dataclasses
import math
from collections.abc import Sequence

import torch

from study.gradient_scale import GradientScale, explosion_rate
from study.linearization import Linearization
from study.network import PackedNetwork
from study.network_gsc import gsc_to_logits_and_losses
from study.random_streams import make_generator
from study.signal_domain import DOMAIN_METRICS

PROBE_BYTES = 1 << 31
"""What states and weights of members that are measured together may take of a GPU; gradients come to it."""
TENSORS_OF_LAYER = 4
"""Stream state, normalized state, slopes, activation."""
COPIES_OF_WEIGHTS = 2
"""In float64, and those multiplied by the scale of the residual path."""


@dataclasses.dataclass(frozen=True)
class NetworkProbe:
    """What one probe measured, per member; float64 on the CPU. D is the depth.

    `to_logits`: GSC from the states s = 0 (input) … D−1 to the logits, [E, D]; `to_loss`: the same to the vector of
    per-example losses, [E, D]; `domain`: the metrics of `study.signal_domain` by name for the nonlinearity
    layers 1 … D−1, [E, D−1] each.
    """

    to_logits: GradientScale
    to_loss: GradientScale
    domain: dict[str, torch.Tensor]

    @property
    def explosion_rate(self) -> torch.Tensor:
        """Growth of GSC per layer, [E]; nan below depth 3."""
        return explosion_rate(self.to_logits.log10_gsc)


def probe_network(
    network: PackedNetwork,
    inputs: torch.Tensor,
    labels: torch.Tensor,
    *,
    seeds: Sequence[int],
    moment: int,
    probe_vectors: int,
) -> NetworkProbe:
    """Measure all members.

    Args:
        network: in any precision, on any device; left as it is.
        inputs: the probe batch [B, inputs] that all members see, or [E, B, inputs].
        labels: their classes, [B].
        seeds: one per member; with `moment` (the optimizer steps done) they key the sign vectors.
        moment: see `seeds`.
        probe_vectors: see `study.network_gsc`.
    """
    at_once = members_at_once(network, inputs)
    parts = []
    for first in range(0, len(seeds), at_once):
        some = slice(first, first + at_once)
        some_inputs = (inputs if inputs.dim() == 2 else inputs[some]).to(torch.float64)
        linearization = Linearization(network.select(some, torch.float64), some_inputs)
        generators = [make_generator(seed, "probe signs", moment) for seed in seeds[some]]
        to_logits, to_loss = gsc_to_logits_and_losses(
            linearization, labels, probe_vectors=probe_vectors, generators=generators
        )
        parts.append(NetworkProbe(to_logits, to_loss, measure_domain(linearization)))
    return NetworkProbe(
        to_logits=_join_scales([part.to_logits for part in parts]),
        to_loss=_join_scales([part.to_loss for part in parts]),
        domain={name: torch.cat([part.domain[name] for part in parts]).cpu() for name in parts[0].domain},
    )


def members_at_once(network: PackedNetwork, inputs: torch.Tensor, room: int = PROBE_BYTES) -> int:
    """Return how many members to measure together.

    On the CPU one: its numbers cannot depend on its pack, and caches hold what it needs. On a GPU, which one member
    leaves idle between thousands of calls, as fit into `room` bytes with states and weights, split evenly.
    """
    if inputs.device.type == "cpu":
        return 1
    width = network.stacked[0].shape[-1]
    states = TENSORS_OF_LAYER * (network.depth - 1) * inputs.shape[-2] * width
    weights = sum(weight.numel() for weight in network.stacked[::2]) // network.member_count
    of_member = (states + COPIES_OF_WEIGHTS * weights) * torch.float64.itemsize
    turns = math.ceil(network.member_count / max(1, room // of_member))
    return math.ceil(network.member_count / turns)


def measure_domain(linearization: Linearization) -> dict[str, torch.Tensor]:
    """Return the metrics of `study.signal_domain` for the nonlinearity layers 1 … D−1, [E, D−1] each."""
    layers = zip(linearization.normalized, linearization.activated, strict=True)
    by_layer = torch.stack([linearization.kernels.measure_domain(n, a) for n, a in layers], dim=2)
    return dict(zip(DOMAIN_METRICS, by_layer, strict=True))


def _join_scales(parts: list[GradientScale]) -> GradientScale:
    return GradientScale(
        torch.cat([part.log10_gsc for part in parts]).cpu(), torch.cat([part.standard_error for part in parts]).cpu()
    )
