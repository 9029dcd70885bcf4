"""Initialization name, shape and random stream → initial weights of one layer of one member.

Legend: n = fan_in, d = fan_out; a weight is stored [n, d], so that a layer computes x W.
    gaussian    entries i.i.d. N(0, gain²/n)
    orthogonal  gain · max(1, √(d/n)) · a matrix with orthonormal rows or columns (whichever there are fewer of)
Both give pre-activations of variance gain² · mean square of the inputs.
Check: a square orthogonal layer with gain 1 keeps every norm.

Draws are made in float64 and rounded once, so that a float32 and a float64 network start from the same weights.
To add one: an entry in INITIALIZERS and its name in `trial_config.INITIALIZATIONS`.
"""

import math
from collections.abc import Callable

import torch


def make_gaussian(fan_in: int, fan_out: int, generator: torch.Generator) -> torch.Tensor:
    """Return [fan_in, fan_out] float64 with variance 1/fan_in."""
    return torch.randn(fan_in, fan_out, generator=generator, dtype=torch.float64) / math.sqrt(fan_in)


def make_orthogonal(fan_in: int, fan_out: int, generator: torch.Generator) -> torch.Tensor:
    """Return [fan_in, fan_out] float64, Haar-distributed (QR with the signs of R's diagonal divided out)."""
    tall = torch.randn(max(fan_in, fan_out), min(fan_in, fan_out), generator=generator, dtype=torch.float64)
    q, r = torch.linalg.qr(tall)
    q = q * torch.where(r.diagonal() < 0, -1.0, 1.0)
    q = q if fan_in >= fan_out else q.T
    return q * max(1.0, math.sqrt(fan_out / fan_in))


INITIALIZERS: dict[str, Callable[[int, int, torch.Generator], torch.Tensor]] = {
    "gaussian": make_gaussian,
    "orthogonal": make_orthogonal,
}
