"""Initialization name → definition: the one table that configuration, networks and documentation read.

Legend: n = fan_in, d = fan_out; a weight is stored [n, d], so that a layer computes x W. Weights have unit gain: they
keep the mean square of their inputs, and the network multiplies them by the gain of `TrialConfig`.
    gaussian      entries i.i.d. N(0, 1/n)
    orthogonal    max(1, √(d/n)) · a matrix with orthonormal rows or columns (whichever there are fewer of)
    looks_linear  O an orthogonal matrix of half the size, mirrored: [O, −O] in the first layer, [[O, −O], [−O, O]]/√2
                  in hidden ones, [O; −O]/√2 in the last. States are mirrored, v = [a, −a], and with the critical gain
                  √2 relu(v) W = [a O, −a O]: without normalization the network starts exactly linear.
Check: a square orthogonal layer keeps every norm.
Sources: Saxe et al. 2013, arXiv:1312.6120 (orthogonal); Balduzzi et al. 2017, arXiv:1702.08591 (looks linear).

Draws are made in float64 and rounded once, so that a float32 and a float64 network start from the same weights.
To add an initialization, add an entry. torch is imported by the functions alone, so that search spaces can read names.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclasses.dataclass(frozen=True)
class LayerShape:
    """Which layer is to be drawn: [fan_in, fan_out], the first one, the last one, or one between."""

    fan_in: int
    fan_out: int
    first: bool = False
    last: bool = False


@dataclasses.dataclass(frozen=True)
class Initialization:
    """How a layer's weight of unit gain is drawn, float64 [fan_in, fan_out], and what it is for."""

    draw: Callable[[LayerShape, "torch.Generator"], "torch.Tensor"]
    description: str
    starts_linear: bool = False
    """It mirrors its units: for relu and an even width alone, and the network then starts out linear."""


def draw_gaussian(shape: LayerShape, generator: "torch.Generator") -> "torch.Tensor":
    """Return entries of variance 1/fan_in."""
    return _draw_normal(shape.fan_in, shape.fan_out, generator) / math.sqrt(shape.fan_in)


def draw_orthogonal(shape: LayerShape, generator: "torch.Generator") -> "torch.Tensor":
    """Return a Haar-distributed matrix (QR with the signs of R's diagonal divided out), scaled where it widens."""
    import torch

    fan_in, fan_out = shape.fan_in, shape.fan_out
    q, r = torch.linalg.qr(_draw_normal(max(fan_in, fan_out), min(fan_in, fan_out), generator))
    q = q * torch.where(r.diagonal() < 0, -1.0, 1.0)
    q = q if fan_in >= fan_out else q.T
    return q * max(1.0, math.sqrt(fan_out / fan_in))


def draw_looks_linear(shape: LayerShape, generator: "torch.Generator") -> "torch.Tensor":
    """Return mirrored blocks of an orthogonal matrix; hidden sizes are even."""
    import torch

    half_in = shape.fan_in if shape.first else shape.fan_in // 2
    half_out = shape.fan_out if shape.last else shape.fan_out // 2
    block = draw_orthogonal(LayerShape(half_in, half_out), generator)
    if not shape.last:
        block = torch.cat([block, -block], dim=1)
    if not shape.first:
        block = torch.cat([block, -block], dim=0) / math.sqrt(2)
    return block


def _draw_normal(rows: int, columns: int, generator: "torch.Generator") -> "torch.Tensor":
    import torch

    return torch.randn(rows, columns, generator=generator, dtype=torch.float64)


INITIALIZATION_TABLE: dict[str, Initialization] = {
    "gaussian": Initialization(draw_gaussian, "independent normal entries of variance gain²/fan_in"),
    "orthogonal": Initialization(draw_orthogonal, "a random orthogonal matrix times the gain"),
    "looks_linear": Initialization(
        draw_looks_linear, "mirrored orthogonal blocks: a relu network that starts out linear", starts_linear=True
    ),
}
