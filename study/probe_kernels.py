"""One nonlinearity layer of a network that is probed → its linearization, gradients through it, and its domain.

Legend: P probe vectors, B examples, H units; φ the activation, N the normalization; all float64.
    v, n, a  [B, H]  stream state, N(v) and φ(n)
    slopes   [B, H]  φ'(n), over the deviation √(variance + ε) that v was divided by
    g        [P, B, H]  gradients of P scalars

N' divides by that deviation, which is the same for all entries that a moment is taken over; so with it in the slopes,
`Normalization.without_moments` is what is left of N'.

On the CPU the work is done by `native_probes.cpp`; on a GPU, and where there is no library, by torch.
Check: with the identity for φ and no normalization, slopes are 1, and gradients come through as they are.
"""

import torch

from study.activations import ACTIVATION_TABLE
from study.native_calls import call
from study.native_kernels import AXIS_NUMBERS, side_by_side
from study.native_library import activation_number
from study.normalizations import Normalization, inverse_deviation
from study.signal_domain import DOMAIN_METRICS, measure_domain


class ProbeKernels:
    """What probes do at a layer of one architecture."""

    def __init__(self, activation: str, normalization: Normalization, device_type: str) -> None:
        self.phi, self.normalization = ACTIVATION_TABLE[activation].function, normalization
        self.number = activation_number(activation) if device_type == "cpu" else None
        """The library's, of the activation; None where torch does the work."""
        self.axis = AXIS_NUMBERS[normalization.axis], int(normalization.centred)

    def linearize(self, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return n, slopes and a."""
        if self.number is not None:
            v = v.contiguous()
            n, slopes, a = (torch.empty_like(v) for _ in range(3))
            call("linearize", (v.dtype,), self.number, *self.axis, *v.shape, *side_by_side(v, n, slopes, a))
            return n, slopes, a
        n, variance = v, None
        if self.normalization.axis is not None:
            n, _, variance = self.normalization.standardise(v)
        with torch.enable_grad():
            argument = n.detach().requires_grad_()
            a = self.phi(argument)
            (slopes,) = torch.autograd.grad(a.sum(), argument)
        return n, slopes if variance is None else slopes * inverse_deviation(variance), a.detach()

    def pull_through(
        self, g: torch.Tensor, slopes: torch.Tensor, n: torch.Tensor, skip: float, g_above: torch.Tensor
    ) -> torch.Tensor:
        """Turn g, from gradients with respect to a, into such with respect to v, in place; return ln of their norms.

        `skip` · `g_above` is what comes along the skip path.
        """
        if self.number is not None:
            squares = g.new_empty(len(g))
            tensors = side_by_side(slopes, n), side_by_side(g_above if skip else None, g, squares)
            call("pull_through", (g.dtype,), *self.axis, *g.shape, *tensors[0], skip, *tensors[1])
            return 0.5 * squares.log()
        self.normalization.without_moments(g.mul_(slopes), n)
        if skip:
            g.add_(g_above, alpha=skip)
        return torch.linalg.vector_norm(g.flatten(1), dim=1).log()

    def measure_domain(self, n: torch.Tensor, a: torch.Tensor) -> torch.Tensor:
        """Return the metrics of `study.signal_domain`, in the order of its `DOMAIN_METRICS`, [3]."""
        if self.number is not None:
            measured = n.new_empty(len(DOMAIN_METRICS))
            call("measure_domain", (n.dtype,), *n.shape, *side_by_side(n, a, measured))
            return measured
        return torch.cat(list(measure_domain(n[None], a[None]).values()))
