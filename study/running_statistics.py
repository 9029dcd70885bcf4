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

    @torch.no_grad()
    def update(self, layer: int, mean: torch.Tensor, variance: torch.Tensor, examples: int) -> None:
        """Move the averages of one layer towards the mean and population variance of a batch."""
        self.mean[layer].lerp_(mean, MOMENTUM)
        self.variance[layer].lerp_(variance * (examples / (examples - 1)), MOMENTUM)

    def normalize(self, layer: int, v: torch.Tensor) -> torch.Tensor:
        """Standardise `v` with the averages of one layer."""
        return (v - self.mean[layer]) * torch.rsqrt(self.variance[layer] + EPSILON)
