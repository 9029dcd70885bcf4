"""Linearized networks → GSC from all of its states to the logits, to the losses, to any state, and between all.

States are numbered s = 0 (input), 1 … D−1 (stream), D (logits). One-hot vectors are taken where they are exact and
affordable, sign vectors elsewhere; see `study.gradient_scale`.
"""

import math
from collections.abc import Sequence

import torch

from study.gradient_scale import (
    EXACT_UP_TO,
    GradientScale,
    estimate_gradient_scale,
    log_norm,
    log_size,
    one_hot_vectors,
    sign_vectors,
)
from study.linearization import Linearization


def gsc_to_logits_and_losses(
    linearization: Linearization,
    labels: torch.Tensor,
    *,
    probe_vectors: int,
    generators: Sequence[torch.Generator],
    exact: bool | None = None,
) -> tuple[GradientScale, GradientScale]:
    """Measure GSC(s → logits) and GSC(s → per-example cross-entropies) for s = 0 … D−1, [E, D] each, in one pass.

    Args:
        linearization: of the networks and the batch.
        labels: classes of the examples, [B].
        probe_vectors: number of sign vectors, at least 2.
        generators: one per member, for its signs.
        exact: one-hot instead of sign vectors; None: where examples are independent and classes are few.

    Raises:
        ValueError: `exact` is asked for where batch normalization couples the examples.
    """
    logits = linearization.logits
    members, _, classes = logits.shape
    exact = choose_exact(linearization, classes, exact)
    of_all = labels.expand(members, -1)
    losses = torch.nn.functional.cross_entropy(logits.mT, of_all, reduction="none")[:, :, None]
    slopes = logits.softmax(dim=2) - torch.nn.functional.one_hot(labels, classes)
    if exact:
        to_logits, to_losses = one_hot_vectors(logits), torch.ones_like(losses)[:, None]
    else:
        to_logits = _draw_signs(logits, probe_vectors, generators)
        to_losses = _draw_signs(losses, probe_vectors, generators)
    depth = linearization.network.depth
    cotangents = torch.cat([to_logits, to_losses * slopes[:, None]], dim=1)
    log_norms = linearization.pull_back(cotangents, depth).transpose(0, 1)
    sizes = _log_sizes(linearization, depth)
    vectors = to_logits.shape[1]
    return (
        estimate_gradient_scale(log_norms[:vectors], sizes, log_norm(logits), exact),
        estimate_gradient_scale(log_norms[vectors:], sizes, log_norm(losses), exact),
    )


def gsc_to_state(
    linearization: Linearization,
    target: int,
    *,
    probe_vectors: int,
    generators: Sequence[torch.Generator],
    exact: bool | None = None,
) -> GradientScale:
    """Measure GSC(s → target) for s = 0 … target − 1, [E, target]; arguments as `gsc_to_logits_and_losses`.

    Raises ValueError for a target that is no state from 1 to D.
    """
    depth = linearization.network.depth
    if not 1 <= target <= depth:
        raise ValueError(f"target: {target} is out of range; give a state from 1 to {depth} (the logits)")
    state = linearization.states[target]
    exact = choose_exact(linearization, state.shape[2], exact)
    vectors = one_hot_vectors(state) if exact else _draw_signs(state, probe_vectors, generators)
    log_norms = linearization.pull_back(vectors, target).transpose(0, 1)
    return estimate_gradient_scale(log_norms, _log_sizes(linearization, target), log_norm(state), exact)


def gsc_matrix(
    linearization: Linearization,
    *,
    probe_vectors: int,
    generators: Sequence[torch.Generator],
    exact: bool | None = None,
) -> GradientScale:
    """Measure GSC between all states of one member, [D+1, D+1].

    Row s, column t; nan where t comes before s, and log10 1 = 0 on the diagonal.
    """
    depth = linearization.network.depth
    log10_gsc = torch.full((depth + 1, depth + 1), math.nan, dtype=torch.float64)
    standard_error = log10_gsc.clone()
    log10_gsc.fill_diagonal_(0.0)
    standard_error.fill_diagonal_(0.0)
    for target in range(1, depth + 1):
        measured = gsc_to_state(linearization, target, probe_vectors=probe_vectors, generators=generators, exact=exact)
        log10_gsc[:target, target] = measured.log10_gsc[0].cpu()
        standard_error[:target, target] = measured.standard_error[0].cpu()
    return GradientScale(log10_gsc, standard_error)


def choose_exact(linearization: Linearization, target_size: int, exact: bool | None) -> bool:
    """Return whether one-hot vectors are to be used; raises ValueError where they would not be exact."""
    independent = not linearization.network.normalization.couples_examples
    if exact and not independent:
        raise ValueError("exact: batch normalization couples the examples; leave it out for sign vectors")
    return independent and target_size <= EXACT_UP_TO if exact is None else exact


def _draw_signs(targets: torch.Tensor, count: int, generators: Sequence[torch.Generator]) -> torch.Tensor:
    """Return sign vectors for targets [E, B, d], each member's from its own generator, [E, count, B, d]."""
    return torch.stack([sign_vectors(one, count, its) for one, its in zip(targets, generators, strict=True)])


def _log_sizes(linearization: Linearization, count: int) -> torch.Tensor:
    members = linearization.network.member_count
    return torch.stack([log_size(state).expand(members) for state in linearization.states[:count]], dim=1)
