"""A packed network and a probe batch → every measurement of one moment: GSC and collapsing domain, layer by layer.

Measured in float64, with training-mode normalization and running statistics untouched.
"""

import dataclasses
from collections.abc import Sequence

import torch

from study.gradient_scale import GradientScale, explosion_rate, measure_gradient_scale
from study.network import PackedNetwork
from study.normalizations import couples_examples
from study.random_streams import make_generator
from study.signal_domain import linear_fit_error, preactivation_std, sign_diversity


@dataclasses.dataclass(frozen=True)
class NetworkProbe:
    """What one probe measured, per member; float64 on the CPU. D is the depth.

    `to_logits`: GSC from the states s = 0 (input) … D−1 to the logits, [E, D]; `to_loss`: GSC from the input to the
    vector of per-example losses, [E, 1]; `domain`: the metrics of `study.signal_domain` by name for the nonlinearity
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
        probe_vectors: see `measure_gradient_scale`.
    """
    # One member at a time bounds the float64 copies and graphs, and its numbers cannot depend on its pack.
    parts = []
    for member, seed in enumerate(seeds):
        one = slice(member, member + 1)
        member_inputs = (inputs if inputs.dim() == 2 else inputs[one]).to(torch.float64)
        generators = [make_generator(seed, "probe signs", moment)]
        parts.append(
            _probe_members(network.select(one, torch.float64), member_inputs, labels, generators, probe_vectors)
        )
    return NetworkProbe(
        to_logits=_join_scales([part.to_logits for part in parts]),
        to_loss=_join_scales([part.to_loss for part in parts]),
        domain={name: torch.cat([part.domain[name] for part in parts]).cpu() for name in parts[0].domain},
    )


def _probe_members(
    network: PackedNetwork,
    inputs: torch.Tensor,
    labels: torch.Tensor,
    generators: list[torch.Generator],
    probe_vectors: int,
) -> NetworkProbe:
    # A source of its own per member: the gradient must not be summed over members that share their inputs.
    x = inputs.expand(network.member_count, -1, -1).clone().requires_grad_()
    stream: list[torch.Tensor] = []
    logits = network.forward(x, network.normalize_by_batch, stream)
    targets = labels.expand(network.member_count, -1)
    losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), targets, reduction="none")
    independent = not couples_examples(network.normalization)
    to_logits = measure_gradient_scale(
        [x, *stream], logits, probe_vectors=probe_vectors, generators=generators, independent_examples=independent
    )
    to_loss = measure_gradient_scale(
        [x], losses[:, :, None], probe_vectors=probe_vectors, generators=generators, independent_examples=independent
    )
    with torch.no_grad():
        nonlinear_inputs = [network.normalize_by_batch(layer, v) for layer, v in enumerate(stream)]
        domain = {
            "preactivation_std": [preactivation_std(n) for n in nonlinear_inputs],
            "sign_diversity": [sign_diversity(n) for n in nonlinear_inputs],
            "linear_fit_error": [linear_fit_error(n, network.activate(n)) for n in nonlinear_inputs],
        }
    return NetworkProbe(to_logits, to_loss, {name: torch.stack(by_layer, dim=1) for name, by_layer in domain.items()})


def _join_scales(parts: list[GradientScale]) -> GradientScale:
    return GradientScale(
        torch.cat([part.log10_gsc for part in parts]).cpu(), torch.cat([part.standard_error for part in parts]).cpu()
    )
