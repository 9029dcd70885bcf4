"""Packed matrices → their products, bitwise the same for a member alone and in any pack.

Legend: E members.
    x  [E, B, n]
    w  [E, n, d]
    x w  [E, B, d]

Which kernel makes a product, and so its last bits, must not depend on the pack. That of `native_products.cpp` cannot:
on the CPU it makes products in fp32, float64 and, unless oneDNN is faster, bfloat16; it has no derivative, and writes
into a tensor that it is given. torch passes oneDNN only products of more than ONEDNN_LEAST multiplications, counted
over the whole pack, and how it cuts up a long sum may depend on the batch (seen from 512 terms on, with 16-bit matrix
units). In fp32 it looks, as the default library does, at where operands begin in memory, in steps of 64 bytes: of 2,744
random sizes whose members begin at different places 327 differed, of 3,190 others none (Zen 3). So members are
multiplied as one batch where nothing can tell them apart, and elsewhere one by one, each copied to a place of its own.
The default library takes some twenty times as long for bfloat16 as for fp32 (Zen 3), so it gets operands that are
widened.
"""

import math

import torch

from study.native_kernels import multiply
from study.native_library import has_function
from study.processor import multiplies_with_onednn

ONEDNN_LEAST = 16**3
"""Multiplications beyond which torch asks oneDNN."""
ONEDNN_LONGEST_SUM = 256
"""Terms of a sum beyond which oneDNN may cut it up as suits the batch."""
ALIGNMENT_BYTES = 64
"""Where torch begins every allocation on the CPU."""


def multiply_members(x: torch.Tensor, w: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
    """Return x w of every member, [E, B, d], in `out` when it is given.

    Either factor may be a transposed view, and w one matrix, expanded, that all members share.
    """
    if out is not None and multiplies_natively(out.device.type, out.dtype):
        multiply(x, w, out)
        return out
    (members, batch, fan_in), fan_out = x.shape, w.shape[2]
    if out is not None and members > 1 and w.stride(0) == 0 and w.device.type == "cpu":  # it would be copied for each
        for one in (slice(member, member + 1) for member in range(members)):
            multiply_members(x[one], w[one], out=out[one])
        return out
    if x.device.type == "cpu" and x.dtype == torch.bfloat16 and not multiplies_with_onednn(x.dtype):
        wide = multiply_members(x.float(), w.float()).to(x.dtype)
        return wide if out is None else out.copy_(wide)
    by_onednn = multiplies_with_onednn(x.dtype) and batch * fan_in * fan_out > ONEDNN_LEAST
    if x.device.type != "cpu" or _can_be_one_batch(batch, fan_in, fan_out, x.dtype, by_onednn):
        return torch.bmm(x, w, out=out)
    if out is None:
        return torch.stack([_multiply_one(x_e, w_e) for x_e, w_e in zip(x.unbind(), w.unbind(), strict=True)])
    for member in range(members):
        out[member] = _multiply_one(x[member], w[member])
    return out


def multiplies_natively(device_type: str, dtype: torch.dtype) -> bool:
    """Say whether the compiled library makes products of this type that are written into a given tensor."""
    return device_type == "cpu" and has_function("multiply", (dtype,))


def _multiply_one(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    return torch.mm(x.clone(), w.clone())


def _can_be_one_batch(batch: int, fan_in: int, fan_out: int, dtype: torch.dtype, by_onednn: bool) -> bool:
    """Say whether a member's bits are the same in a batch of any size."""
    sizes = (batch * fan_in, fan_in * fan_out, batch * fan_out)
    is_aligned = math.gcd(*sizes) * dtype.itemsize % ALIGNMENT_BYTES == 0
    if by_onednn:
        return fan_in <= ONEDNN_LONGEST_SUM and (is_aligned or dtype != torch.float32)
    if multiplies_with_onednn(dtype):
        return False
    return min(batch, fan_in, fan_out) > 1 and is_aligned
