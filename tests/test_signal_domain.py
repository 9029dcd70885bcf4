import numpy as np
import pytest
import torch

from study.signal_domain import linear_fit_error, preactivation_std, sign_diversity


def batch(seed=0, examples=400, units=6, shift=0.0, spread=1.0):
    generator = torch.Generator().manual_seed(seed)
    return shift + spread * torch.randn(2, examples, units, generator=generator, dtype=torch.float64)


def test_no_collapse_and_full_collapse():
    assert preactivation_std(batch()).tolist() == pytest.approx([1, 1], abs=0.01)
    assert preactivation_std(torch.ones(1, 5, 3)).item() == 0
    assert preactivation_std(torch.zeros(1, 5, 3)).item() == 0


def test_preactivation_std_follows_its_definition():
    n = batch(shift=2.0, spread=0.5)[:1]
    expected = ((n[0].std(dim=0, correction=0) ** 2).mean() / (n[0] ** 2).mean()).sqrt().item()
    assert preactivation_std(n).item() == pytest.approx(expected, rel=1e-12)


def test_sign_diversity_counts_the_rarer_sign():
    n = torch.tensor([[[1.0, -1.0, 2.0], [1.0, 1.0, 3.0], [1.0, 2.0, -1.0], [-1.0, 3.0, -1.0]]])
    assert sign_diversity(n).item() == pytest.approx((0.25 + 0.25 + 0.5) / 3)
    assert sign_diversity(torch.zeros(1, 4, 2)).item() == 0


def test_linear_fit_error_equals_least_squares():
    n = batch()
    output = torch.relu(n)
    residual = total = 0.0
    for unit in range(n.shape[2]):
        x, y = n[0, :, unit].numpy(), output[0, :, unit].numpy()
        fit = np.polyval(np.polyfit(x, y, 1), x)
        residual += ((y - fit) ** 2).sum()
        total += ((y - y.mean()) ** 2).sum()
    assert linear_fit_error(n, output)[0].item() == pytest.approx(residual / total, rel=1e-9)
    # relu of a balanced Gaussian: 1 − (1/4) / (1/2 − 1/2π)
    assert linear_fit_error(n, output)[1].item() == pytest.approx(1 - 0.25 / (0.5 - 0.5 / np.pi), abs=0.04)


def test_linear_and_constant_outputs_are_pseudo_linear():
    n = batch()
    assert linear_fit_error(n, 3 * n - 1).tolist() == pytest.approx([0, 0], abs=1e-12)
    assert linear_fit_error(n, torch.zeros_like(n)).tolist() == [0, 0]
    assert linear_fit_error(torch.ones_like(n), torch.ones_like(n)).tolist() == [0, 0]


def test_the_rounding_of_a_collapsed_domain_is_no_nonlinearity():
    n = 0.3 + 1e-16 * torch.randn(1, 200, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert linear_fit_error(n, torch.sigmoid(n)).item() == 0
    barely = 0.3 + 1e-9 * torch.randn(1, 200, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert 0 <= linear_fit_error(barely, torch.sigmoid(barely)).item() < 1e-6
