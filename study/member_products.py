"""Packed matrices → their products, bitwise the same for a member alone and in any pack.

Legend: E members.
    x     [E, B, n]
    W     [E, n, d]
    bias  [E, d]
    x W + bias  [E, B, d]

The last bits of a product depend on where its operands begin in memory, in steps of 64 bytes: a member that lies at
another distance from such a step than it would alone may get another kernel. Where every member begins at one, the
products run as one batch; elsewhere each member is copied to a place of its own and multiplied by itself.
"""

import math
from typing import Any

import torch

ALIGNMENT_BYTES = 64
"""Where torch begins every allocation on the CPU."""


def multiply_members(bias: torch.Tensor, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Return x W + bias of every member, [E, B, d]."""
    _, batch, fan_in = x.shape
    if x.device.type != "cpu" or _keeps_members_aligned(batch, fan_in, weight.shape[2], x.element_size()):
        return torch.baddbmm(bias.unsqueeze(1), x, weight)
    product: torch.Tensor = _OneByOne.apply(bias, x, weight)
    return product


def _keeps_members_aligned(batch: int, fan_in: int, fan_out: int, element_size: int) -> bool:
    """Say whether all members' matrices begin at a multiple of ALIGNMENT_BYTES; vectors take kernels of their own."""
    sizes = (batch * fan_in, fan_in * fan_out, batch * fan_out)
    return min(batch, fan_in, fan_out) > 1 and math.gcd(*sizes) * element_size % ALIGNMENT_BYTES == 0


class _OneByOne(torch.autograd.Function):
    """Products of one member at a time, each operand copied to an allocation of its own."""

    @staticmethod
    def forward(ctx: Any, bias: torch.Tensor, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        members = zip(bias.unbind(), x.unbind(), weight.unbind(), strict=True)
        return torch.stack([torch.addmm(b, x_e.clone(), w_e.clone()) for b, x_e, w_e in members])

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        from_bias, from_x, from_weight = ctx.needs_input_grad
        g = [member.clone() for member in gradient.unbind()]
        return (
            gradient.sum(dim=1) if from_bias else None,
            torch.stack([g_e @ w_e.clone().T for g_e, w_e in zip(g, weight.unbind(), strict=True)]) if from_x else None,
            torch.stack([x_e.clone().T @ g_e for g_e, x_e in zip(g, x.unbind(), strict=True)]) if from_weight else None,
        )
