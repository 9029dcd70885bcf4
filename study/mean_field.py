"""Activation, normalization, dilution and gain → the explosion rate that mean-field theory predicts.

Legend (infinite width, z ~ N(0, 1)):
    k     dilution level
    g     gain: weights have variance g²/fan_in
    B     examples in a batch
    m, s  covariance of two examples in a stream state, and the variance of one beyond it; m + s is the mean square q
    χ_l   growth per layer of the *squared* GSC
    r     explosion rate, growth of GSC per layer: √χ

One layer maps  m → (k²m + g²M)/(k²+1),  s → (k²s + g²S)/(k²+1)  and
    χ_l = (k² + g²P/c) / (k²+1) · q_l / q_{l+1}
with M, S, P of φ at the normalized state and c what the normalization divides by:
    normalization  c      M        S        P
    none           1      0        E[φ²]    E[φ'²]   at √q z
    layer, rms     m + s  0        E[φ²]    E[φ'²]   at z
    batch, B → ∞   s      E[φ]²    Var[φ]   E[φ'²]   at z
    batch          s      `finite_batch_moments`
(Only batch normalization tells m from s; elsewhere all of q is kept in s. The ε = 1e-5 that networks add to c is left
out: it matters where a stream's variance comes near it. Of tanh with layer normalization at depth 20, r was measured
as 1.003 and 1.090 with gains of 0.003 and 0.03, both 1.085 here.) In the stationary state this is
χ_k = 1 + (χ − 1)/(k² + 1) with χ = P/S for batch and qP/S otherwise.
Check: relu with batch normalization has E[φ'²] = 1/2 and Var[φ] = 1/2 − 1/2π, so χ = π/(π−1) = 1.4669.

Sources: Yang et al. 2019, "A mean field theory of batch normalization"; Schoenholz et al. 2016, "Deep information
propagation". Their squared growth is our χ. The finite-batch moments for any φ are ours.
"""

import functools
import math

import numpy as np
import torch

from study.activations import ACTIVATION_TABLE
from study.initialization import INITIALIZATION_TABLE
from study.normalizations import EXAMPLES, NORMALIZATION_TABLE

INTEGRATION_LIMIT = 12.0  # the Gaussian density is 2e-32 there
NODES_PER_HALF, NODES_PER_PANEL = 400, 80
RADIAL_NODES, ANGULAR_NODES = 200, 48
TRAINABLE_SQUARED_GROWTH = 16.0
"""ln of the squared growth of gradients, over all layers, at which training stops to work (Yang et al. 2019)."""


@functools.cache
def activation_moments(activation: str, variance: float) -> tuple[float, float, float]:
    """Return E[φ], E[φ²] and E[φ'²] at √variance·z, by Gauss–Legendre quadrature on each side of a kink at 0."""
    if not math.isfinite(variance):
        return math.nan, math.nan, math.nan
    scale = math.sqrt(variance)
    z, weight = _gaussian_nodes(max(1.0, scale))
    value, slope = _value_and_slope(activation, scale * z)
    return _expect(value, weight), _expect(value.square(), weight), _expect(slope.square(), weight)


@functools.cache
def finite_batch_moments(activation: str, batch_size: int) -> tuple[float, float, float]:
    """Return M, S and P of the module's table for batch normalization over B examples.

    One unit's normalized values n over the batch are uniform on the sphere |n|² = B, Σ n = 0. With n, n' those of two
    examples (correlation −1/(B−1)), M = E[φ(n) φ(n')], S = E[φ²] − M. A gradient δ over the batch has covariance
    ∝ I − 1/B; pulled back through φ and the normalization its mean square grows by P/s,
        P = B/((B−1)(B−3)) · E‖(I − 1/B − n nᵀ/B) (φ'(n) ∘ δ)‖²
          = B/((B−1)(B−3)) · ( (B−1) ((1−1/B) E[φ'²] − E[n²φ'²]/B) + (1−1/B) E[(1 + n n') φ'(n) φ'(n')] ),
    B−3 because the norm that is divided by is a χ² of B−1 degrees of freedom. nan for B < 4, where that has no mean.
    Check: identity gives P/S = (B−2)/(B−3).
    """
    b = batch_size
    if b < 4:
        return math.nan, math.nan, math.nan
    n, other, weight = _spherical_nodes(b)
    value, slope = _value_and_slope(activation, n)
    other_value, other_slope = _value_and_slope(activation, other)
    covariance = _expect(value * other_value, weight)
    variance = _expect(value.square(), weight) - covariance
    own = (1 - 1 / b) * _expect(slope.square(), weight) - _expect((n * slope).square(), weight) / b
    pairs = _expect((1 + n * other) * slope * other_slope, weight)
    return covariance, variance, b / ((b - 1) * (b - 3)) * ((b - 1) * own + (1 - 1 / b) * pairs)


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
    depth: int,
    activation: str,
    normalization: str,
    dilution: float = 0.0,
    gain: float | str = "critical",
    initialization: str = "gaussian",
    batch_size: int | None = None,
) -> np.ndarray:
    """Return χ_l for the `depth` − 2 steps between stream states v_1 … v_{depth−1}.

    The input is taken as standardised with batch mean 0: v_1 starts with m = 0 and s = (gain of the first layer)².
    `batch_size` None means an infinite batch; it matters to batch normalization alone. Orthogonal weights count as
    gaussian ones, as they do at infinite width, and a network that starts linear as the identity.
    """
    gain_number = resolve_gain(gain, activation)
    if INITIALIZATION_TABLE[initialization].starts_linear:
        gain_number, activation = gain_number / critical_gain(activation), "identity"
    g2 = gain_number**2
    # k²/(k²+1) and 1/(k²+1), written so that huge k does not overflow.
    residual_share = 1 / (1 + dilution * dilution) if dilution < 1e150 else 0.0
    skip_share = 1 - residual_share
    axis = NORMALIZATION_TABLE[normalization].axis
    m, s = 0.0, resolve_input_gain(gain) ** 2
    growth = []
    for _ in range(depth - 2):
        divisor = 1.0 if axis is None else s if axis == EXAMPLES else m + s
        if axis == EXAMPLES and batch_size is not None:
            covariance, variance, slope_square = finite_batch_moments(activation, batch_size)
        else:
            mean, square, slope_square = activation_moments(activation, 1.0 if axis is not None else m + s)
            covariance = mean * mean if axis == EXAMPLES else 0.0
            variance = square - covariance
        next_m = skip_share * m + residual_share * g2 * covariance
        next_s = skip_share * s + residual_share * g2 * variance
        # A stream that has faded below the smallest number has no growth to speak of.
        jacobian = skip_share + residual_share * g2 * slope_square / (divisor or math.nan)
        growth.append(jacobian * (m + s) / (next_m + next_s) if next_m + next_s > 0 else math.nan)
        m, s = next_m, next_s
    return np.array(growth)


def predicted_explosion_rate(squared_growth: np.ndarray) -> float:
    """Return r, the geometric mean growth of GSC per layer, from what `squared_growth_by_layer` returned.

    nan for no layers, and where a number on the way left the range of float64.
    """
    known = len(squared_growth) > 0 and (squared_growth > 0).all() and np.isfinite(squared_growth).all()
    return float(np.exp(0.5 * np.mean(np.log(squared_growth)))) if known else math.nan


def stationary_explosion_rate(
    activation: str, normalization: str, dilution: float = 0.0, batch_size: int | None = None
) -> float:
    """Return r in the stationary state, that of infinite depth, with the critical gain."""
    mean, square, slope_square = activation_moments(activation, 1.0)
    if NORMALIZATION_TABLE[normalization].axis == EXAMPLES:
        square -= mean * mean
        if batch_size is not None:
            _, square, slope_square = finite_batch_moments(activation, batch_size)
    return math.sqrt(1 + (slope_square / square - 1) / (dilution * dilution + 1))


def predicted_trainable_depth(explosion_rate: float) -> float:
    """Return about how deep a network of this rate can be trained, 16/ln χ; inf where nothing explodes."""
    growth = 2 * math.log(explosion_rate)
    return math.inf if growth <= 1e-9 else TRAINABLE_SQUARED_GROWTH / growth


def _value_and_slope(activation: str, argument: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return φ and φ' at given places."""
    argument = argument.detach().requires_grad_()
    value = ACTIVATION_TABLE[activation].function(argument)
    (slope,) = torch.autograd.grad(value.sum(), argument)
    return value.detach(), slope


def _expect(quantity: torch.Tensor, weight: torch.Tensor) -> float:
    return float((quantity * weight).sum())


def _gaussian_nodes(scale: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Nodes z and weights (density included) for functions of scale·z that vary around 0 on a length of 1.

    Each half-line is cut at 1/scale, 4/scale, 16/scale …, so that φ' of saturating activations is seen at any scale.
    """
    cuts = [0.0]
    while (cut := 4.0 ** (len(cuts) - 1) / scale) < INTEGRATION_LIMIT / 2:
        cuts.append(cut)
    cuts.append(INTEGRATION_LIMIT)
    nodes, weights = _legendre(NODES_PER_HALF if len(cuts) == 2 else NODES_PER_PANEL)
    spans = np.diff(cuts)[:, None] / 2
    half = (np.array(cuts[:-1])[:, None] + spans * (nodes + 1)).reshape(-1)
    z = np.concatenate([-half[::-1], half])
    length = (spans * weights).reshape(-1)
    density = np.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    weight = np.concatenate([length[::-1], length]) * density
    return torch.from_numpy(z), torch.from_numpy(weight)


@functools.cache
def _legendre(count: int) -> tuple[np.ndarray, np.ndarray]:
    return np.polynomial.legendre.leggauss(count)


@functools.cache
def _spherical_nodes(b: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Values n, n' of two examples and weights (density included), float64 [nodes] each.

    The sphere has radius √(B−1) in units of one example's standard deviation and dimension B−1. In the plane of two
    examples the radius is √(B−1) sin α with density (B−3) sin α cos^{B−4} α, the angle is uniform, and both values
    change sign, where φ may have its kink, at the four angles that the circle is cut at.
    """
    radius, correlation = math.sqrt(b - 1), -1 / (b - 1)
    nodes, weights = _legendre(RADIAL_NODES)
    last = math.asin(min(1.0, INTEGRATION_LIMIT / radius))
    alpha = (nodes + 1) * (last / 2)
    radial_weight = weights * (last / 2) * (b - 3) * np.sin(alpha) * np.cos(alpha) ** (b - 4)
    tilt = math.asin(correlation)
    cuts = np.sort([-math.pi / 2, math.pi / 2, -tilt, math.pi - tilt])
    cuts = np.append(cuts, cuts[0] + 2 * math.pi)
    nodes, weights = _legendre(ANGULAR_NODES)
    spans = np.diff(cuts)[:, None] / 2
    theta = (cuts[:-1, None] + spans * (nodes + 1)).reshape(-1)
    angular_weight = (spans * weights).reshape(-1) / (2 * math.pi)
    n = radius * np.sin(alpha)[:, None] * np.cos(theta)
    other = radius * np.sin(alpha)[:, None] * np.sin(theta + tilt)
    weight = radial_weight[:, None] * angular_weight
    return torch.from_numpy(n.reshape(-1)), torch.from_numpy(other.reshape(-1)), torch.from_numpy(weight.reshape(-1))
