"""Activation, normalization, dilution and gain → the explosion rate that mean-field theory predicts.

Legend (infinite width, infinite batch, z ~ N(0, 1)):
    k     dilution level
    g     gain: weights have variance g²/fan_in
    m, s  mean square over units of the batch mean of a stream state, and its batch variance averaged over units;
          m + s is the mean square q of the state
    χ_l   growth per layer of the *squared* GSC
    r     explosion rate, growth of GSC per layer: √χ

One layer maps  m → (k²m + g²E[φ]²)/(k²+1),  s → (k²s + g²Var[φ])/(k²+1)  with φ at the normalized state, and
    χ_l = (k² + g²E[φ'²]/c) / (k²+1) · q_l / q_{l+1}
where c is what the normalization divides by: 1 (none), m + s (layer), s (batch). In the stationary state this is
χ_k = 1 + (χ − 1)/(k² + 1) with χ = E[φ'²]/Var[φ] for batch and q·E[φ'²]/E[φ²] otherwise.
Check: relu with batch normalization has E[φ'²] = 1/2 and Var[φ] = 1/2 − 1/2π, so χ = π/(π−1) = 1.4669.

Sources: Yang et al. 2019, "A mean field theory of batch normalization"; Schoenholz et al. 2016, "Deep information
propagation". Their squared growth is our χ.
"""

import functools
import math

import numpy as np
import torch

from study.activations import ACTIVATION_FUNCTIONS

INTEGRATION_LIMIT = 12.0  # the Gaussian density is 2e-32 there
NODES_PER_HALF = 400


@functools.cache
def activation_moments(activation: str, variance: float) -> tuple[float, float, float]:
    """Return E[φ], E[φ²] and E[φ'²] at √variance·z, by Gauss–Legendre quadrature on each side of a kink at 0."""
    z, weight = _gaussian_nodes()
    argument = (math.sqrt(variance) * z).requires_grad_()
    value = ACTIVATION_FUNCTIONS[activation](argument)
    (slope,) = torch.autograd.grad(value.sum(), argument)
    value = value.detach()

    def expectation(quantity: torch.Tensor) -> float:
        return float((quantity * weight).sum())

    return expectation(value), expectation(value.square()), expectation(slope.square())


def critical_gain(activation: str) -> float:
    """Return the gain that keeps unit pre-activation variance: 1/√E[φ(z)²] (relu √2, tanh 1.5925, selu 1)."""
    return 1 / math.sqrt(activation_moments(activation, 1.0)[1])


def resolve_gain(gain: float | str, activation: str) -> float:
    """Turn the `gain` of a `TrialConfig` into a number."""
    named = {"he": math.sqrt(2), "lecun": 1.0, "xavier": 1.0}
    if gain == "critical":
        return critical_gain(activation)
    return named[gain] if isinstance(gain, str) else gain


def resolve_input_gain(gain: float | str) -> float:
    """Turn `gain` into a number for the first layer: its inputs are standardised, not activated, so critical is 1."""
    return resolve_gain(gain, "identity")


def squared_growth_by_layer(
    depth: int, activation: str, normalization: str, dilution: float = 0.0, gain: float | str = "critical"
) -> np.ndarray:
    """Return χ_l for the `depth` − 2 steps between stream states v_1 … v_{depth−1}.

    The input is taken as standardised with batch mean 0: v_1 starts with m = 0 and s = (gain of the first layer)².
    """
    g2 = resolve_gain(gain, activation) ** 2
    # k²/(k²+1) and 1/(k²+1), written so that huge k does not overflow.
    residual_share = 1 / (1 + dilution * dilution) if dilution < 1e150 else 0.0
    skip_share = 1 - residual_share
    m, s = 0.0, resolve_input_gain(gain) ** 2
    growth = []
    for _ in range(depth - 2):
        divisor = {"none": 1.0, "layer": m + s, "batch": s}[normalization] or math.nan
        mean, square, slope_square = activation_moments(activation, m + s if normalization == "none" else 1.0)
        if normalization == "batch":
            next_m, next_s = mean * mean, square - mean * mean
        else:  # only batch normalization tells the batch mean from the rest
            next_m, next_s = 0.0, square
        next_m = skip_share * m + residual_share * g2 * next_m
        next_s = skip_share * s + residual_share * g2 * next_s
        jacobian = skip_share + residual_share * g2 * slope_square / divisor
        # A stream that has faded below the smallest number has no growth to speak of.
        growth.append(jacobian * (m + s) / (next_m + next_s) if next_m + next_s > 0 else math.nan)
        m, s = next_m, next_s
    return np.array(growth)


def predicted_explosion_rate(
    depth: int, activation: str, normalization: str, dilution: float = 0.0, gain: float | str = "critical"
) -> float:
    """Return r, the geometric mean growth of GSC per layer over a network of this depth; nan below depth 3."""
    growth = squared_growth_by_layer(depth, activation, normalization, dilution, gain)
    return float(np.exp(0.5 * np.mean(np.log(growth)))) if len(growth) else math.nan


@functools.cache
def _gaussian_nodes() -> tuple[torch.Tensor, torch.Tensor]:
    """Nodes z and weights (density included) of the two half-line rules; float64 [2·NODES_PER_HALF] each."""
    nodes, weights = np.polynomial.legendre.leggauss(NODES_PER_HALF)
    half = (nodes + 1) * (INTEGRATION_LIMIT / 2)
    z = np.concatenate([-half[::-1], half])
    density = np.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    weight = np.concatenate([weights[::-1], weights]) * (INTEGRATION_LIMIT / 2) * density
    return torch.from_numpy(z), torch.from_numpy(weight)
