"""One nonlinearity layer of networks that are probed → its linearization, gradients through it, and its domain.

Legend: E members, P probe vectors, B examples, H units; φ the activation, N the normalization; all float64.
    v, n, a  [E, B, H]  stream state, N(v) and φ(n)
    slopes   [E, B, H]  φ'(n), over the deviation √(variance + ε) that v was divided by
    g        [E, P, B, H]  gradients of P scalars

N' divides by that deviation, which is the same for all entries that a moment is taken over; so with it in the slopes,
`Normalization.without_moments` is what is left of N'.

On the CPU the work is done by `native_probes.cpp`, which takes one member (E = 1); on a GPU, and where there is no
library, by torch.
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
            sizes = _of_one_member(v)
            call("linearize", (v.dtype,), self.number, *self.axis, *sizes, *side_by_side(v, n, slopes, a))
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
        self, g: torch.Tensor, slopes: torch.Tensor, n: torch.Tensor, skip: torch.Tensor | None, g_above: torch.Tensor
    ) -> torch.Tensor:
        """Turn g, from gradients with respect to a, into such with respect to v, in place; return ln of their norms.

        `skip` [E, 1, 1] · `g_above` is what comes along skip paths; None where no member has one. Norms are [E, P].
        """
        if self.number is not None:
            squares = g.new_empty(g.shape[:2])
            tensors = side_by_side(slopes, n), side_by_side(None if skip is None else g_above, g, squares)
            factor = 0.0 if skip is None else skip.item()
            call("pull_through", (g.dtype,), *self.axis, *_of_one_member(g), *tensors[0], factor, *tensors[1])
            return 0.5 * squares.log()
        self.normalization.without_moments(g.mul_(slopes[:, None]), n[:, None])
        if skip is not None:
            g.addcmul_(skip[:, None], g_above)
        return torch.linalg.vector_norm(g.flatten(2), dim=2).log()

    def measure_domain(self, n: torch.Tensor, a: torch.Tensor) -> torch.Tensor:
        """Return the metrics of `study.signal_domain`, in the order of its `DOMAIN_METRICS`, [3, E]."""
        if self.number is not None:
            measured = n.new_empty(len(DOMAIN_METRICS), 1)
            call("measure_domain", (n.dtype,), *_of_one_member(n), *side_by_side(n, a, measured))
            return measured
        return torch.stack(list(measure_domain(n, a).values()))


def _of_one_member(tensor: torch.Tensor) -> tuple[int, ...]:
    """Return the sizes that follow the axis of members, of which there must be one."""
    members, *sizes = tensor.shape
    assert members == 1
    return tuple(sizes)
