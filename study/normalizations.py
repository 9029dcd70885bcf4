"""Normalization name → definition: the one table that configuration, networks, theory and documentation read.

Legend: E members (or any leading axes), B examples, H units; g the gradient with respect to N(v).
    v     [E, B, H]  stream state
    N(v)  [E, B, H]  = (v − mean) / √(variance + EPSILON), moments over the entry's axis, variance the population one;
                       where it is not centred, the mean is left in and the variance is the mean square
    gradient with respect to v  = (g − mean(g) − N(v) · mean(g · N(v))) / √(variance + EPSILON), the first mean only
                                  where it is centred
None has a trainable gain or shift. `batch` and `layer` are those of `torch.nn.BatchNorm1d` and `torch.nn.LayerNorm`,
`rms` that of `torch.nn.RMSNorm`.
Check: N(v) of batch has mean 0 and variance 1 in every column.

To add a normalization, add an entry. The file imports nothing, so that search spaces can read its names.
"""

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

EPSILON = 1e-5
EXAMPLES, UNITS = -2, -1


@dataclasses.dataclass(frozen=True)
class Normalization:
    """How a state is standardised: over its EXAMPLES, its UNITS, or (None) not at all; with or without centring."""

    axis: int | None
    centred: bool
    description: str

    @property
    def couples_examples(self) -> bool:
        """Whether one example's output depends on the others in its batch."""
        return self.axis == EXAMPLES

    def normalize(self, v: "torch.Tensor") -> "torch.Tensor":
        """Return N(v) with moments of this batch."""
        return v if self.axis is None else self.standardise(v)[0]

    def standardise(self, v: "torch.Tensor") -> tuple["torch.Tensor", "torch.Tensor", "torch.Tensor"]:
        """Return N(v), and the mean and population variance it was made with, which broadcast over v."""
        assert self.axis is not None
        mean = v.mean(dim=self.axis, keepdim=True)
        residual = v - mean if self.centred else v
        variance = residual.square().mean(dim=self.axis, keepdim=True)
        return residual * inverse_deviation(variance), mean, variance

    def pull_back(
        self, gradient: "torch.Tensor", normalized: "torch.Tensor", variance: "torch.Tensor | None"
    ) -> "torch.Tensor":
        """Return the gradient with respect to v, from that with respect to N(v), which has further leading axes.

        The gradient given is overwritten.
        """
        result = self.without_moments(gradient, normalized)
        return result if variance is None or self.axis is None else result * inverse_deviation(variance)

    def without_moments(self, gradient: "torch.Tensor", normalized: "torch.Tensor") -> "torch.Tensor":
        """Return `pull_back` but for its last factor, which may as well be applied to the gradient before."""
        if self.axis is None:
            return gradient
        along = (gradient * normalized).mean(dim=self.axis, keepdim=True)
        mean = gradient.mean(dim=self.axis, keepdim=True) if self.centred else None
        result = gradient.addcmul_(normalized, along, value=-1)
        return result if mean is None else result.sub_(mean)


def inverse_deviation(variance: "torch.Tensor") -> "torch.Tensor":
    """Return 1/√(variance + EPSILON)."""
    return (variance + EPSILON).rsqrt()


NORMALIZATION_TABLE: dict[str, Normalization] = {
    "none": Normalization(axis=None, centred=False, description="v itself"),
    "batch": Normalization(axis=EXAMPLES, centred=True, description="each unit over the examples"),
    "layer": Normalization(axis=UNITS, centred=True, description="each example over its units"),
    "rms": Normalization(axis=UNITS, centred=False, description="each example over its units, without centring"),
}
