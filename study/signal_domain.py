"""Inputs and outputs of a nonlinearity layer over a batch → how far it has collapsed, and how linear it acts.

Legend: E members, B examples, H units; n = N(v) [E, B, H] input of the nonlinearity, φ(n) its output. Variances are
population variances over the examples.

Source: the collapsing domain problem and pseudo-linearity of Philipp, Song and Carbonell, arXiv:1712.05577.
"""

import torch

DOMAIN_METRICS = ("preactivation_std", "sign_diversity", "linear_fit_error")


def measure_domain(n: torch.Tensor, activated: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return the metrics of this file by name, [E] each."""
    values = preactivation_std(n), sign_diversity(n), linear_fit_error(n, activated)
    return dict(zip(DOMAIN_METRICS, values, strict=True))


def preactivation_std(n: torch.Tensor) -> torch.Tensor:
    """Return [E] √(mean over units of Var(n)) / √(mean n²): 1 without collapse, towards 0 when collapsed."""
    variance = n.var(dim=1, correction=0).mean(dim=1)
    return _ratio(variance, n.square().mean(dim=(1, 2))).sqrt()


def sign_diversity(n: torch.Tensor) -> torch.Tensor:
    """Return [E] mean over units of min(#positive, #negative)/B: 0.5 when balanced, 0 when collapsed."""
    positive = (n > 0).to(n.dtype).mean(dim=1)
    negative = (n < 0).to(n.dtype).mean(dim=1)
    return torch.minimum(positive, negative).mean(dim=1)


def linear_fit_error(n: torch.Tensor, activated: torch.Tensor) -> torch.Tensor:
    """Return [E] the share of Var(φ(n)) that the best affine fit per unit leaves unexplained, pooled over units.

    0 means pseudo-linear; a constant output is affine, so it has 0 too, up to rounding.
    """
    n_centred = n - n.mean(dim=1, keepdim=True)
    output_centred = activated - activated.mean(dim=1, keepdim=True)
    covariance = (n_centred * output_centred).mean(dim=1)
    total = output_centred.square().mean(dim=1)
    rounding = (1000 * torch.finfo(n.dtype).eps) ** 2
    varies = (total > rounding * activated.square().mean(dim=1)) & (
        n_centred.square().mean(dim=1) > rounding * n.square().mean(dim=1)
    )
    total, covariance = torch.where(varies, total, 0), torch.where(varies, covariance, 0)
    explained = _ratio(covariance.square(), n_centred.square().mean(dim=1))
    return _ratio((total - explained).clamp(min=0).sum(dim=1), total.sum(dim=1))


def _ratio(numerator: torch.Tensor, denominator: torch.Tensor) -> torch.Tensor:
    """Divide, with 0 where the denominator is 0 (there the numerators of this file are 0 too)."""
    return torch.where(denominator > 0, numerator / torch.where(denominator > 0, denominator, 1), 0)
