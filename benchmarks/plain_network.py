"""The study's networks as a user would write them for one trial in plain PyTorch, for comparison."""

import itertools
import math

import torch
from torch import nn

from study.trial_config import TrialConfig

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh}
NORMALIZATIONS = {
    "none": lambda width: nn.Identity(),
    "batch": lambda width: nn.BatchNorm1d(width, affine=False),
    "layer": lambda width: nn.LayerNorm(width, elementwise_affine=False),
}


class PlainNetwork(nn.Module):
    """A diluted multilayer perceptron of `trial.depth` linear layers; inputs [B, 3072] to logits [B, 10]."""

    def __init__(self, trial: TrialConfig, inputs: int = 3072, classes: int = 10) -> None:
        super().__init__()
        sizes = [inputs] + [trial.width] * (trial.depth - 1) + [classes]
        layers = [nn.Linear(a, b) for a, b in itertools.pairwise(sizes)]
        self.layers = nn.ModuleList(layers)
        self.norms = nn.ModuleList(NORMALIZATIONS[trial.normalization](trial.width) for _ in sizes[1:-1])
        self.phi, self.k = ACTIVATIONS[trial.activation](), trial.dilution
        for number, layer in enumerate(layers):
            gain = math.sqrt(2) if number and trial.activation == "relu" else 1.0
            nn.init.normal_(layer.weight, std=gain / math.sqrt(layer.in_features))
            nn.init.zeros_(layer.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits."""
        v = self.layers[0](x)
        for norm, layer in zip(self.norms[:-1], self.layers[1:-1], strict=True):
            residual = layer(self.phi(norm(v)))
            v = (self.k * v + residual) / math.sqrt(self.k**2 + 1) if self.k else residual
        return self.layers[-1](self.phi(self.norms[-1](v)))
