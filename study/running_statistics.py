"""Batch moments of training → the running ones that batch normalization evaluates with."""

import dataclasses

import torch

from study.normalizations import EPSILON


@dataclasses.dataclass
class RunningStatistics:
    """Exponential averages of batch means and (unbiased) variances, which `study.backpropagation` keeps up.

    [layers, E, 1, H] each.
    """

    mean: torch.Tensor
    variance: torch.Tensor

    def normalize(self, layer: int, v: torch.Tensor) -> torch.Tensor:
        """Standardise `v` with the averages of one layer."""
        return standardise_with(v, self.mean[layer], self.variance[layer])


def standardise_with(v: torch.Tensor, mean: torch.Tensor, variance: torch.Tensor) -> torch.Tensor:
    """Return v with given moments taken out."""
    return (v - mean) * torch.rsqrt(variance + EPSILON)
