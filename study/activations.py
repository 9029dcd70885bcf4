"""Activation name → definition: the one table that configuration, networks, theory and documentation read.

To add an activation, add an entry. Functions take tensors of any shape and act on each element. They are made of
operations whose vectorized and scalar paths agree bitwise, because it depends on an element's place in the pack which
of them computes it (`torch.selu`, `torch.sigmoid` and others disagree), and of such that autograd gives the slope that
`torch.nn.functional` gives, at 0 and far from it. The file imports nothing, so that search spaces can read its names.
"""

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772
LEAKY_SLOPE = 0.01


@dataclasses.dataclass(frozen=True)
class Activation:
    """A nonlinearity φ: its function, and its formula as documentation shows it."""

    function: Callable[["torch.Tensor"], "torch.Tensor"]
    formula: str


def _negative_part(z: "torch.Tensor") -> "torch.Tensor":
    return z.clamp(max=0)


def _minus_magnitude(z: "torch.Tensor") -> "torch.Tensor":
    """Return −|z|, with the slope 1 at 0 that gives functions of it theirs."""
    return _negative_part(z) - z.relu()


def _sigmoid(z: "torch.Tensor") -> "torch.Tensor":
    # 1/(1 + e⁻ᶻ) as eᶻ/(1 + eᶻ) where z < 0: neither overflows, and slopes keep their digits on both sides.
    return _negative_part(z).exp() / (1 + _minus_magnitude(z).exp())


def _softplus(z: "torch.Tensor") -> "torch.Tensor":
    e = _minus_magnitude(z).exp()
    u = 1 + e
    return z.relu() + u.log() + (e - (u - 1)) / u  # ln(1 + e) without the rounding of 1 + e


def _exponential_minus_one(z: "torch.Tensor") -> "torch.Tensor":
    # autograd takes the slope of expm1 from its value, which has lost it where the value is nearly −1.
    return (z.exp() - 1).where(z < -0.5, z.expm1())


ACTIVATION_TABLE: dict[str, Activation] = {
    "relu": Activation(lambda z: z.relu(), "max(z, 0)"),
    "leaky_relu": Activation(
        lambda z: z.relu() + LEAKY_SLOPE * _negative_part(z), f"max(z, 0) + {LEAKY_SLOPE} min(z, 0)"
    ),
    "tanh": Activation(lambda z: z.tanh(), "tanh z"),
    "sigmoid": Activation(_sigmoid, "1/(1 + e⁻ᶻ)"),
    "selu": Activation(
        lambda z: SELU_SCALE * (z.relu() + SELU_ALPHA * _exponential_minus_one(_negative_part(z))),
        f"{SELU_SCALE:.4f} (z where z > 0, {SELU_ALPHA:.4f} (eᶻ − 1) elsewhere)",
    ),
    "elu": Activation(
        lambda z: z.relu() + _exponential_minus_one(_negative_part(z)), "z where z > 0, eᶻ − 1 elsewhere"
    ),
    "gelu": Activation(lambda z: 0.5 * z * (1 + (z * 0.5**0.5).erf()), "z Φ(z), Φ the normal distribution function"),
    "silu": Activation(lambda z: z * _sigmoid(z), "z/(1 + e⁻ᶻ)"),
    "softplus": Activation(_softplus, "ln(1 + eᶻ)"),
    "identity": Activation(lambda z: z, "z: the linear control"),
}
