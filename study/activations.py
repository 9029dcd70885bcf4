"""Activation name → function. To add one: an entry here and its name in `trial_config.ACTIVATIONS`.

Functions are made of operations whose vectorized and scalar paths agree bitwise, because it depends on an element's
place in the pack which of them computes it. `torch.selu` is not one of them.
"""

from collections.abc import Callable

import torch

SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772


def selu(z: torch.Tensor) -> torch.Tensor:
    """Return scale · (z where z > 0, α(eᶻ − 1) elsewhere). Source: Klambauer et al. 2017, arXiv:1706.02515."""
    return SELU_SCALE * (torch.relu(z) + SELU_ALPHA * torch.expm1(z.clamp(max=0)))


ACTIVATION_FUNCTIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "relu": torch.relu,
    "tanh": torch.tanh,
    "selu": selu,
    "identity": lambda z: z,
}
