"""Batch moments of training → the running ones that batch normalization evaluates with."""

import dataclasses

import torch

from study.normalizations import EPSILON

MOMENTUM = 0.1
"""As `torch.nn.BatchNorm1d`."""


@dataclasses.dataclass
class RunningStatistics:
    """Exponential averages of batch means and (unbiased) variances; [layers, E, 1, H] each."""

    mean: torch.Tensor
    variance: torch.Tensor

    def update(self, mean: torch.Tensor, variance: torch.Tensor, examples: int) -> None:
        """Move the averages towards the means and population variances of a batch, [layers, E, 1, H] each."""
        self.mean.lerp_(mean, MOMENTUM)
        self.variance.lerp_(variance * (examples / (examples - 1)), MOMENTUM)

    def normalize(self, layer: int, v: torch.Tensor) -> torch.Tensor:
        """Standardise `v` with the averages of one layer."""
        return standardise_with(v, self.mean[layer], self.variance[layer])


def standardise_with(v: torch.Tensor, mean: torch.Tensor, variance: torch.Tensor) -> torch.Tensor:
    """Return v with given moments taken out."""
    return (v - mean) * torch.rsqrt(variance + EPSILON)
