"""An activation and a normalization → the element-wise kernels of a block, forward and backward, compiled.

Between two matrix products a block only reads and writes memory, so all of it is one kernel in each direction.

Legend: E members, H units, B examples; products may be in a shorter type than states. Examples are the last axis: their
number mostly fills whole vectors of the processor, where the number of units often does not.
    v, n     [E, H, B]  a stream state and N(v)
    a        [E, H, B]  scale · φ(n), what is multiplied by the next weights
    product  [E, H, B]  Wᵀ a of the block before
    bias     [E, H, 1]
    skip, residual, scale  [E, 1, 1]  k/√(k²+1); 1/√(k²+1) for the bias of one block and for the a of the next
    g        [E, H, B]  gradient of the loss with respect to v;  g_a with respect to a

    v_{l+1} = skip · v_l + (product + residual · bias)                    (product = Wᵀ a holds its factor already)
    g_l     = skip · g_{l+1} + N'ᵀ( φ'(n) ∘ (scale · g_a) )
    gradient of bias = residual · Σ_B g                                  (0 where batch normalization follows)

Check: with φ the identity, no normalization and k = 0, v is product + bias and g is g_a.

Where no member of a pack has a skip path (k = 0), earlier states and later gradients are left out (None), which saves
a third of the memory traffic. Kernels write into tensors that they are given.

Compiled, they are those of `native_kernels.cpp` on the CPU, and on a GPU what torch's compiler makes of the functions
here (but for `pull_back_loss` and `average`, of which there is one each in a step). Without a compiler the same
functions run step by step, slower.
"""

import dataclasses
import functools
import types
import warnings
from collections.abc import Callable
from typing import Any, TypeAlias

import torch

from study.activations import ACTIVATION_TABLE
from study.native_kernels import make_native_block_kernels
from study.normalizations import NORMALIZATION_TABLE
from study.processor import keep_compiled_kernels
from study.running_statistics import standardise_with

Kernel = Callable[..., None]
T: TypeAlias = torch.Tensor
VARIANTS_AT_MOST = 64
"""Compilations of one kernel: sizes of 1 and equal sizes have their own."""


@dataclasses.dataclass(frozen=True)
class BlockKernels:
    """The kernels of one architecture; what each takes and writes stands at its function in this file."""

    take_images: Kernel
    advance: Kernel
    advance_evaluating: Kernel
    pull_back: Kernel
    pull_back_loss: Kernel
    average: Kernel
    are_native: bool = dataclasses.field(default=False, kw_only=True)
    """Whether the compiled library's are these."""


@functools.cache
def make_block_kernels(activation: str, normalization: str, compiled: bool, device_type: str = "cpu") -> BlockKernels:
    """Return the kernels of an architecture."""
    if compiled and device_type == "cpu":
        native = make_native_block_kernels(activation, normalization)
        if native:
            return BlockKernels(*native, are_native=True)
    kernels = _make_block_kernels(activation, normalization)
    if compiled and device_type != "cpu":
        kernels = tuple(map(compile_kernel, kernels))
    kernels = (*kernels, pull_back_loss, average)
    return BlockKernels(*kernels)


def _make_block_kernels(activation: str, normalization_name: str) -> tuple[Kernel, ...]:
    phi, normalization = ACTIVATION_TABLE[activation].function, NORMALIZATION_TABLE[normalization_name]

    def take_images(images: T, rows: T, factor: T, shift: T, x: T) -> None:
        """Write images[rows] · factor + shift → x; images are uint8 [N, inputs], rows [E, B]."""
        x.copy_(images[rows].to(factor.dtype) * factor + shift)

    def advance(
        v: T | None,
        product: T,
        bias: T,
        skip: T,
        residual: T,
        scale: T,
        v_next: T | None,
        n: T,
        a: T,
        mean: T,
        variance: T,
    ) -> None:
        """Write the next state, its normalized form and activation, and the moments it was normalized with."""
        state = _add_skip(skip, v, product.to(bias.dtype) + residual * bias)
        if normalization.axis is None:
            n.copy_(state)
            a.copy_(scale * phi(state))
            return
        normalized, m, s = normalization.standardise(state.mT)
        if v_next is not None:
            v_next.copy_(state)
        n.copy_(normalized.mT)
        a.copy_(scale * phi(normalized.mT))
        mean.copy_(m)
        variance.copy_(s)

    def advance_evaluating(
        v: T | None, product: T, bias: T, skip: T, residual: T, scale: T, mean: T, variance: T, v_next: T | None, a: T
    ) -> None:
        """Write the next state and its activation; batch normalization uses the running moments given."""
        state = _add_skip(skip, v, product.to(bias.dtype) + residual * bias)
        if normalization.couples_examples:
            normalized = standardise_with(state.mT, mean, variance)
        else:
            normalized = normalization.normalize(state.mT)
        if v_next is not None:
            v_next.copy_(state)
        a.copy_(scale * phi(normalized.mT))

    def pull_back(
        g_a: T,
        n: T,
        variance: T,
        scale: T,
        g_next: T | None,
        skip: T,
        residual: T,
        g: T | None,
        g_short: T | None,
        a: T,
        to_bias: T,
    ) -> None:
        """Write the gradient with respect to a state, also in the type of products, and that of the bias; and a again.

        Making the activation again is quicker than fetching it from memory. The gradient of a bias is left as it is
        where it is 0: batch normalization takes out what is added to all examples.
        """
        activated, through_phi = torch.func.vjp(phi, n)  # type: ignore[misc]
        (g_n,) = through_phi(scale * g_a.to(n.dtype))
        result = _add_skip(skip, g_next, normalization.pull_back(g_n.mT, n.mT, variance).mT)
        a.copy_(scale * activated)
        if g is not None:
            g.copy_(result)
        if g_short is not None:
            g_short.copy_(result)
        if not normalization.couples_examples:
            to_bias.copy_(residual * result.sum(dim=2, keepdim=True))

    return take_images, advance, advance_evaluating, pull_back


def pull_back_loss(product: T, bias: T, labels: T, g: T, to_bias: T) -> None:
    """Write (softmax − one-hot)/B of the logits, product + bias, and the gradient of the bias.

    product, g are [E, C, B], bias and to_bias [E, C], labels [E, B] integers.
    """
    gradient = (product.to(bias.dtype) + bias.unsqueeze(2)).softmax(dim=1)
    gradient.scatter_add_(1, labels.unsqueeze(1), torch.full_like(gradient[:, :1], -1))
    gradient /= labels.shape[1]
    to_bias.copy_(gradient.sum(dim=2))
    g.copy_(gradient)


def average(running: T, batch: T, momentum: float, factor: float) -> None:
    """Move running averages towards factor · batch."""
    running.lerp_(batch * factor, momentum)


def _add_skip(skip: T, along_skip: T | None, along_residual: T) -> T:
    """Return the sum of both paths; where a member has no skip path, bitwise what it is where none of its pack has."""
    if along_skip is None:
        return along_residual
    return torch.where(skip == 0, along_residual, skip * along_skip + along_residual)


def compile_kernel(kernel: Kernel) -> Kernel:
    """Return a kernel compiled by torch for any shape, or itself, with a warning, where that does not work.

    Shapes are symbolic: one compilation serves all depths, widths, batches and packs (of one member there is another).
    """
    # Compilations are kept by code object, and a search through those of other architectures takes time.
    own = types.FunctionType(
        kernel.__code__.replace(), kernel.__globals__, kernel.__name__, kernel.__defaults__, kernel.__closure__
    )
    keep_compiled_kernels()
    torch._dynamo.config.recompile_limit = max(VARIANTS_AT_MOST, torch._dynamo.config.recompile_limit)
    fast = torch.compile(own, dynamic=True, fullgraph=True)

    def run(*arguments: Any) -> None:
        nonlocal fast
        try:
            fast(*arguments)
        except torch._dynamo.exc.TorchDynamoException as error:
            first_line = str(error).strip().partition("\n")[0]
            warnings.warn(f"kernels are not compiled and run slower ({first_line})", stacklevel=2)
            fast = kernel
            kernel(*arguments)

    return run
