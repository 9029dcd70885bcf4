"""Packed matrices → their products, bitwise the same for a member alone and in any pack.

Legend: E members.
    x  [E, B, n]
    w  [E, n, d]
    x w  [E, B, d]

Which kernel makes a product, and so its last bits, must not depend on the pack. oneDNN gives a member the same bits
wherever it lies, but torch passes it only products of more than ONEDNN_LEAST multiplications, counted over the whole
pack. The default library looks at where operands begin in memory, in steps of 64 bytes. So members are multiplied as
one batch where neither can tell them apart, and elsewhere one by one, each copied to a place of its own.
"""

import math

import torch

from study.processor import multiplies_with_onednn

ONEDNN_LEAST = 16**3
"""Multiplications beyond which torch asks oneDNN."""
ALIGNMENT_BYTES = 64
"""Where torch begins every allocation on the CPU."""


def multiply_members(x: torch.Tensor, w: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
    """Return x w of every member, [E, B, d], in `out` when it is given; either factor may be a transposed view."""
    if x.device.type != "cpu" or _can_be_one_batch(x.shape[1], x.shape[2], w.shape[2], x.dtype):
        return torch.bmm(x, w, out=out)
    products = [torch.mm(x_e.clone(), w_e.clone()) for x_e, w_e in zip(x.unbind(), w.unbind(), strict=True)]
    return torch.stack(products, out=out)


def _can_be_one_batch(batch: int, fan_in: int, fan_out: int, dtype: torch.dtype) -> bool:
    """Say whether a member's bits are the same in a batch of any size."""
    if multiplies_with_onednn(dtype):
        return batch * fan_in * fan_out > ONEDNN_LEAST
    sizes = (batch * fan_in, fan_in * fan_out, batch * fan_out)
    return min(batch, fan_in, fan_out) > 1 and math.gcd(*sizes) * dtype.itemsize % ALIGNMENT_BYTES == 0
