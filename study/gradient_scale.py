"""Stream states and a target → the gradient scale coefficient (GSC) between them.

Legend: E members, B examples, F_s [E, B, d_s] states, F_t [E, B, d_t] target, J = ∂F_t/∂F_s over the whole batch,
so that the coupling of examples by batch normalization is part of it.

    GSC(s → t) = ‖J‖_F / √(B·d_s) · ‖F_s‖_F / ‖F_t‖_F          (unsquared; dimensionless)

It is the expected relative change of F_t per unit relative random change of F_s.
Estimator: for V of i.i.d. signs shaped like F_t, E‖VᵀJ‖² = ‖J‖_F², and one backward pass serves every s. Where the
examples are independent, the d_t one-hot vectors (the same one for every example) are exact, because their squared
norms add up to ‖J‖_F². Check: an identity or orthogonal map has GSC 1, log10 0.

Source: Philipp, Song and Carbonell, arXiv:1712.05577, section 3.
"""

import dataclasses
import math
from collections.abc import Sequence

import torch


@dataclasses.dataclass(frozen=True)
class GradientScale:
    """GSC from several states to one target, per member.

    `log10_gsc` [E, S]: base-10 logarithm, −inf where nothing arrives; `standard_error` [E, S] of that logarithm over
    the probe vectors, with one less degree of freedom than vectors, 0 when exact.
    """

    log10_gsc: torch.Tensor
    standard_error: torch.Tensor


def measure_gradient_scale(
    sources: Sequence[torch.Tensor],
    target: torch.Tensor,
    *,
    probe_vectors: int,
    generators: Sequence[torch.Generator],
    independent_examples: bool,
) -> GradientScale:
    """Estimate GSC from every source to `target` with the graph between them kept.

    Args:
        sources: states F_s, each [E, B, d_s], part of the graph of `target`.
        target: F_t [E, B, d_t].
        probe_vectors: number of sign vectors, at least 2; where examples are independent and d_t is no larger than
            this, the exact one-hot vectors are taken instead.
        generators: one per member, for the signs.
        independent_examples: no example's target depends on another example (no batch normalization).
    """
    exact = independent_examples and target.shape[2] <= probe_vectors
    vectors = _one_hot_vectors(target) if exact else _sign_vectors(target, probe_vectors, generators)
    log_norms = []
    for vector in vectors:
        gradients = torch.autograd.grad(target, list(sources), vector, retain_graph=True)
        log_norms.append(torch.stack([log_norm(gradient) for gradient in gradients], dim=1))
    log_squares = 2 * torch.stack(log_norms)  # [vectors, E, S]
    log_sum = torch.logsumexp(log_squares, dim=0)
    log_jacobian = 0.5 * (log_sum if exact else log_sum - math.log(len(vectors)))
    log_sizes = torch.stack(
        [log_norm(source.detach()) - 0.5 * math.log(source[0].numel()) for source in sources], dim=1
    )
    log_gsc = log_jacobian + log_sizes - log_norm(target.detach())[:, None]
    if exact:
        standard_error = torch.zeros_like(log_gsc)
    else:
        # d log10(x)/dx = 1/(x ln 10), and GSC is the square root of what is averaged.
        relative = torch.exp(log_squares - log_sum + math.log(len(vectors)))
        standard_error = relative.std(dim=0) / math.sqrt(len(vectors)) / (2 * math.log(10))
    return GradientScale(log_gsc / math.log(10), standard_error)


def explosion_rate(log10_gsc: torch.Tensor) -> torch.Tensor:
    """Return r [E], the mean growth of GSC per layer between the first and the last stream state.

    nan below depth 3, and where nothing arrives at one of the two ends.
    `log10_gsc` [E, D] runs over s = 0 (input) … D−1. Taking the two ends over their distance is the maximum-likelihood
    estimate when the logarithms of the layers' growths are independent.
    """
    layers = log10_gsc.shape[1] - 2
    if layers < 1:
        return torch.full_like(log10_gsc[:, 0], math.nan)
    growth = log10_gsc[:, 1] - log10_gsc[:, -1]
    return torch.where(growth.isfinite(), 10 ** (growth / layers), math.nan)


def log_norm(tensor: torch.Tensor) -> torch.Tensor:
    """Return ln ‖tensor[e]‖_F per member [E], divided by the largest entry first so that no square overflows."""
    flat = tensor.flatten(1)
    peak = flat.abs().amax(dim=1, keepdim=True)
    safe_peak = torch.where(peak > 0, peak, torch.ones_like(peak))
    return torch.log(safe_peak[:, 0]) + torch.log(torch.linalg.vector_norm(flat / safe_peak, dim=1))


def _one_hot_vectors(target: torch.Tensor) -> list[torch.Tensor]:
    rows = torch.eye(target.shape[2], dtype=target.dtype, device=target.device)
    return [row.expand_as(target) for row in rows]


def _sign_vectors(target: torch.Tensor, count: int, generators: Sequence[torch.Generator]) -> list[torch.Tensor]:
    shape = target.shape[1:]
    signs = torch.stack([torch.randint(0, 2, (count, *shape), generator=generator) for generator in generators], dim=1)
    return list((2 * signs - 1).to(target.device, target.dtype))
