"""Batch moments of training → the running ones that batch normalization evaluates with."""

import dataclasses
from collections.abc import Sequence

import torch

from study.normalizations import EPSILON

MOMENTUM = 0.1
"""As `torch.nn.BatchNorm1d`."""


@dataclasses.dataclass
class RunningStatistics:
    """Exponential averages of batch means and (unbiased) variances; [layers, E, 1, H] each."""

    mean: torch.Tensor
    variance: torch.Tensor

    def update(self, means: Sequence[torch.Tensor], variances: Sequence[torch.Tensor], examples: int) -> None:
        """Move the averages towards the mean and population variance that each layer had in a batch."""
        for layer, (mean, variance) in enumerate(zip(means, variances, strict=True)):
            self.mean[layer].lerp_(mean, MOMENTUM)
            self.variance[layer].lerp_(variance * (examples / (examples - 1)), MOMENTUM)

    def normalize(self, layer: int, v: torch.Tensor) -> torch.Tensor:
        """Standardise `v` with the averages of one layer."""
        return standardise_with(v, self.mean[layer], self.variance[layer])


def standardise_with(v: torch.Tensor, mean: torch.Tensor, variance: torch.Tensor) -> torch.Tensor:
    """Return v with given moments taken out."""
    return (v - mean) * torch.rsqrt(variance + EPSILON)
