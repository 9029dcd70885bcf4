"""Normalization name → function of packed pre-activations, without trainable gain or shift.

Legend: E members, B examples, H units.
    v     [E, B, H]  stream state
    N(v)  [E, B, H]  batch: each unit over the examples; layer: each example over the units
Both divide by √(variance + EPSILON) with the population variance, as `torch.nn.BatchNorm1d` and `torch.nn.LayerNorm`.
Check: N(v) of batch has mean 0 and variance 1 in every column.

To add one: an entry in NORMALIZATION_FUNCTIONS and its name in `trial_config.NORMALIZATIONS`.
"""

import dataclasses
from collections.abc import Callable

import torch

EPSILON = 1e-5
RUNNING_MOMENTUM = 0.1


def normalize_nothing(v: torch.Tensor) -> torch.Tensor:
    """Return `v` itself."""
    return v


def normalize_batch(v: torch.Tensor) -> torch.Tensor:
    """Standardise each unit over the examples of its member."""
    return standardise_over_batch(v)[0]


def standardise_over_batch(v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return N(v), and the mean and population variance that it was made with, [E, 1, H] each."""
    mean = v.mean(dim=1, keepdim=True)
    centred = v - mean
    variance = centred.square().mean(dim=1, keepdim=True)
    return centred * torch.rsqrt(variance + EPSILON), mean, variance


def normalize_layer(v: torch.Tensor) -> torch.Tensor:
    """Standardise each example over its units."""
    centred = v - v.mean(dim=2, keepdim=True)
    return centred * torch.rsqrt(centred.square().mean(dim=2, keepdim=True) + EPSILON)


NORMALIZATION_FUNCTIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "none": normalize_nothing,
    "batch": normalize_batch,
    "layer": normalize_layer,
}


def couples_examples(normalization: str) -> bool:
    """Say whether one example's output depends on the others in its batch."""
    return normalization == "batch"


@dataclasses.dataclass
class RunningStatistics:
    """Exponential averages of batch means and (unbiased) variances, for evaluation; [layers, E, 1, H] each."""

    mean: torch.Tensor
    variance: torch.Tensor

    @torch.no_grad()
    def update(self, layer: int, mean: torch.Tensor, variance: torch.Tensor, examples: int) -> None:
        """Move the averages of one layer towards the mean and population variance of a batch."""
        self.mean[layer].lerp_(mean, RUNNING_MOMENTUM)
        self.variance[layer].lerp_(variance * (examples / (examples - 1)), RUNNING_MOMENTUM)

    def normalize(self, layer: int, v: torch.Tensor) -> torch.Tensor:
        """Standardise `v` with the averages of one layer."""
        return (v - self.mean[layer]) * torch.rsqrt(self.variance[layer] + EPSILON)
