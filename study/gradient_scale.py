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

import torch

EXACT_UP_TO = 32
"""Largest size of a target for which one-hot vectors are the default; larger ones get sign vectors."""


@dataclasses.dataclass(frozen=True)
class GradientScale:
    """GSC from several states to one target, per member.

    `log10_gsc` [E, S]: base-10 logarithm, −inf where nothing arrives; `standard_error` [E, S] of that logarithm over
    the probe vectors, with one less degree of freedom than vectors, 0 when exact.
    """

    log10_gsc: torch.Tensor
    standard_error: torch.Tensor


def estimate_gradient_scale(
    log_norms: torch.Tensor, log_sizes: torch.Tensor, log_target: torch.Tensor, exact: bool
) -> GradientScale:
    """Put norms together to GSC.

    Args:
        log_norms: ln ‖VᵀJ‖ for every probe vector V, [vectors, E, S].
        log_sizes: ln (‖F_s‖_F/√(B·d_s)), [E, S].
        log_target: ln ‖F_t‖_F, [E].
        exact: the vectors are all one-hot ones, not signs.
    """
    log_squares = 2 * log_norms
    log_sum = torch.logsumexp(log_squares, dim=0)
    log_jacobian = 0.5 * (log_sum if exact else log_sum - math.log(len(log_squares)))
    log_gsc = log_jacobian + log_sizes - log_target[:, None]
    if exact:
        standard_error = torch.zeros_like(log_gsc)
    else:
        # d log10(x)/dx = 1/(x ln 10), and GSC is the square root of what is averaged.
        relative = torch.exp(log_squares - log_sum + math.log(len(log_squares)))
        standard_error = relative.std(dim=0) / math.sqrt(len(log_squares)) / (2 * math.log(10))
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
    # One by one: the last bits of a power depend on how many are taken at once.
    rates = torch.stack([10**of_member for of_member in (growth / layers).unbind()])
    return torch.where(growth.isfinite(), rates, math.nan)


def log_norm(tensor: torch.Tensor) -> torch.Tensor:
    """Return ln ‖tensor[e]‖_F per member [E], divided by the largest entry first so that no square overflows."""
    flat = tensor.flatten(1)
    peak = flat.abs().amax(dim=1, keepdim=True)
    safe_peak = torch.where(peak > 0, peak, torch.ones_like(peak))
    return torch.log(safe_peak[:, 0]) + torch.log(torch.linalg.vector_norm(flat / safe_peak, dim=1))


def log_size(state: torch.Tensor) -> torch.Tensor:
    """Return ln of the quadratic mean of each member's state, ln (‖F_s‖_F/√(B·d_s)), [E]."""
    return log_norm(state) - 0.5 * math.log(state[0].numel())


def one_hot_vectors(target: torch.Tensor) -> torch.Tensor:
    """Return the exact probes of targets [E, B, d]: [E, d, B, d], vector i is 1 at unit i of every example."""
    members, batch, size = target.shape
    return torch.eye(size, dtype=target.dtype, device=target.device)[:, None, :].expand(members, size, batch, size)


def sign_vectors(target: torch.Tensor, count: int, generator: torch.Generator) -> torch.Tensor:
    """Return `count` vectors of random signs shaped like `target`, drawn on the CPU: [count, *target.shape]."""
    signs = torch.randint(0, 2, (count, *target.shape), generator=generator)
    return (2 * signs - 1).to(target.device, target.dtype)
