"""Activation name → function. To add one: an entry here and its name in `trial_config.ACTIVATIONS`."""

from collections.abc import Callable

import torch

ACTIVATION_FUNCTIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "relu": torch.relu,
    "tanh": torch.tanh,
    "selu": torch.selu,
    "identity": lambda z: z,
}
