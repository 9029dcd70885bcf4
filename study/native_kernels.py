"""Tensors on the CPU → the functions of the library, which have the arguments of those in torch.

Legend as in `study/kernels.py` and `study/member_products.py`.
"""

from collections.abc import Callable

import torch

from study.native_library import activation_number, address, find_function
from study.normalizations import EXAMPLES, NORMALIZATION_TABLE, UNITS

Kernel = Callable[..., None]
T = torch.Tensor
AXIS_NUMBERS = {None: 0, EXAMPLES: 1, UNITS: 2}


def make_native_block_kernels(activation: str, normalization_name: str) -> tuple[Kernel, ...] | None:
    """Return take_images, advance, advance_evaluating and pull_back; None where the library lacks the activation."""
    number, normalization = activation_number(activation), NORMALIZATION_TABLE[normalization_name]
    if number is None:
        return None
    architecture = number, AXIS_NUMBERS[normalization.axis], int(normalization.centred)

    def advance(
        v: T | None, product: T, bias: T, skip: T, residual: T, scale: T, v_next: T | None, n: T, a: T, mean: T, var: T
    ) -> None:
        function = find_function("advance", (n.dtype, product.dtype), "iiiiii" + 11 * "p")
        tensors = (v, product, bias, skip, residual, scale, v_next, n, a, mean, var)
        function(*architecture, *n.shape, *map(address, tensors))

    def advance_evaluating(
        v: T | None, product: T, bias: T, skip: T, residual: T, scale: T, mean: T, var: T, v_next: T | None, a: T
    ) -> None:
        function = find_function("advance_evaluating", (bias.dtype, product.dtype), "iiiiii" + 10 * "p")
        tensors = (v, product, bias, skip, residual, scale, mean, var, v_next, a)
        function(*architecture, *a.shape, *map(address, tensors))

    def pull_back(
        g_a: T, n: T, var: T, scale: T, g_next: T | None, skip: T, residual: T, g: T | None, g_short: T | None, a: T,
        to_bias: T,
    ) -> None:  # fmt: skip
        function = find_function("pull_back", (n.dtype, g_a.dtype), "iiiiii" + 11 * "p")
        tensors = (g_a, n, var, scale, g_next, skip, residual, g, g_short, a, to_bias)
        function(*architecture, *n.shape, *map(address, tensors))

    return take_images, advance, advance_evaluating, pull_back


def take_images(images: T, rows: T, factor: T, shift: T, x: T) -> None:
    """Write images[rows] · factor + shift → x."""
    function = find_function("take_images", (factor.dtype, x.dtype), "ii" + 5 * "p")
    function(rows.numel(), images.shape[1], *map(address, (images, rows, factor, shift, x)))


def step_of_adam(
    p: T, g: T, m: T, s: T, rate: T, weight_decay: T, momentum: T, root_correction: T, short: T | None,
    *, betas: tuple[float, float], epsilon: float,
) -> None:  # fmt: skip
    """Update p, m, s [L, E, n] and a copy of p."""
    types = p.dtype, g.dtype, g.dtype if short is None else short.dtype
    function = find_function("step_of_adam", types, "iii" + 7 * "p" + "dddp")
    numbers = map(address, (p, g, m, s, rate, weight_decay, root_correction))
    function(*p.shape, *numbers, *betas, epsilon, address(short))


def step_of_sgd(p: T, g: T, b: T, rate: T, weight_decay: T, momentum: T, root_correction: T, short: T | None) -> None:
    """Update p, b [L, E, n] and a copy of p."""
    types = p.dtype, g.dtype, g.dtype if short is None else short.dtype
    function = find_function("step_of_sgd", types, "iii" + 7 * "p")
    function(*p.shape, *map(address, (p, g, b, rate, weight_decay, momentum, short)))


def multiply(x: T, w: T, out: T) -> None:
    """Write x w [E, B, d] → out; x [E, B, n] and w [E, n, d] may be transposed views, out may not."""
    assert out.stride(2) == 1 or out.shape[2] == 1
    function = find_function("multiply", (out.dtype,), "iiii" + 2 * "piii" + "pii")
    sizes = (*out.shape, x.shape[2])
    function(*sizes, x.data_ptr(), *x.stride(), w.data_ptr(), *w.stride(), out.data_ptr(), *out.stride()[:2])
