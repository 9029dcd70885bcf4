"""Tensors on the CPU → the functions of the library, which have the arguments of those in torch.

Legend as in `study/kernels.py` and `study/member_products.py`.
"""

from collections.abc import Callable

import torch

from study.native_calls import call
from study.native_library import activation_number
from study.normalizations import EXAMPLES, NORMALIZATION_TABLE, UNITS

Kernel = Callable[..., None]
T = torch.Tensor
AXIS_NUMBERS = {None: 0, EXAMPLES: 1, UNITS: 2}


def make_native_block_kernels(activation: str, normalization_name: str) -> tuple[Kernel, ...] | None:
    """Return the kernels of `study.kernels.BlockKernels`, in its order; None where the library lacks the activation."""
    number, normalization = activation_number(activation), NORMALIZATION_TABLE[normalization_name]
    if number is None:
        return None
    architecture = number, AXIS_NUMBERS[normalization.axis], int(normalization.centred)

    def advance(
        v: T | None, product: T, bias: T, skip: T, residual: T, scale: T, v_next: T | None, n: T, a: T, mean: T, var: T
    ) -> None:
        tensors = side_by_side(v, product, bias, skip, residual, scale, v_next, n, a, mean, var)
        call("advance", (n.dtype, product.dtype), *architecture, *n.shape, *tensors)

    def advance_evaluating(
        v: T | None, product: T, bias: T, skip: T, residual: T, scale: T, mean: T, var: T, v_next: T | None, a: T
    ) -> None:
        tensors = side_by_side(v, product, bias, skip, residual, scale, mean, var, v_next, a)
        call("advance_evaluating", (bias.dtype, product.dtype), *architecture, *a.shape, *tensors)

    def pull_back(
        g_a: T, n: T, var: T, scale: T, g_next: T | None, skip: T, residual: T, g: T | None, g_short: T | None, a: T,
        to_bias: T,
    ) -> None:  # fmt: skip
        tensors = side_by_side(g_a, n, var, scale, g_next, skip, residual, g, g_short, a, to_bias)
        call("pull_back", (n.dtype, g_a.dtype), *architecture, *n.shape, *tensors)

    return take_images, advance, advance_evaluating, pull_back, pull_back_loss, average


def take_images(images: T, rows: T, factor: T, shift: T, x: T) -> None:
    """Write images[rows] · factor + shift → x."""
    tensors = side_by_side(images, rows, factor, shift, x)
    call("take_images", (factor.dtype, x.dtype), rows.numel(), images.shape[1], *tensors)


def pull_back_loss(product: T, bias: T, labels: T, g: T, to_bias: T) -> None:
    """Write the gradients with respect to the logits and their bias."""
    tensors = side_by_side(product, bias, labels, g, to_bias)
    call("pull_back_loss", (bias.dtype, product.dtype), *product.shape, *tensors)


def average(running: T, batch: T, momentum: float, factor: float) -> None:
    """Move running averages towards factor · batch."""
    call("average", (running.dtype,), running.numel(), *side_by_side(running, batch), momentum, factor)


def step_of_adam(
    p: T, g: T, m: T, s: T, rate: T, weight_decay: T, momentum: T, root_correction: T, short: T | None,
    *, betas: tuple[float, float], epsilon: float,
) -> None:  # fmt: skip
    """Update p, m, s [L, E, n] and a copy of p."""
    types = p.dtype, g.dtype, g.dtype if short is None else short.dtype
    tensors = side_by_side(p, g, m, s, rate, weight_decay, root_correction)
    call("step_of_adam", types, *p.shape, *tensors, *betas, epsilon, *side_by_side(short))


def step_of_sgd(p: T, g: T, b: T, rate: T, weight_decay: T, momentum: T, root_correction: T, short: T | None) -> None:
    """Update p, b [L, E, n] and a copy of p."""
    types = p.dtype, g.dtype, g.dtype if short is None else short.dtype
    call("step_of_sgd", types, *p.shape, *side_by_side(p, g, b, rate, weight_decay, momentum, short))


def multiply(x: T, w: T, out: T) -> None:
    """Write x w [E, B, d] → out; x [E, B, n] and w [E, n, d] may be transposed views, out may not; n is at least 1."""
    assert x.dtype == w.dtype == out.dtype
    assert x.shape[2] > 0
    assert 1 in w.stride()[1:]
    assert out.stride(2) == 1 or out.shape[2] == 1
    sizes, types = (*out.shape, x.shape[2]), (out.dtype,)
    call("multiply", types, *sizes, x, *x.stride(), w, *w.stride(), out, *out.stride()[:2])


def side_by_side(*tensors: T | None) -> tuple[T | None, ...]:
    """Return tensors, the numbers of each of which must lie one behind the other."""
    assert all(tensor is None or tensor.is_contiguous() for tensor in tensors)
    return tensors
