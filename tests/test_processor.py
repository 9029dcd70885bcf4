import pytest
import torch

from study import processor
from study.processor import choose_fp32_products, fp32_error, multiplies_with_onednn


@pytest.fixture(autouse=True)
def _keep_the_switch():
    products = torch.backends.mkldnn.matmul
    before = products.fp32_precision
    yield
    products.fp32_precision = before


def test_products_in_use_are_really_fp32():
    choose_fp32_products()
    assert fp32_error() < processor.FP32_TOLERANCE


def test_the_check_tells_shortened_operands_from_fp32():
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 2, 64, 64, generator=generator)
    exact = a.double() @ b.double()
    shortened = a.bfloat16().float() @ b.bfloat16().float()
    assert (shortened - exact).abs().max() / exact.square().mean().sqrt() > 100 * processor.FP32_TOLERANCE


def test_where_the_fast_library_shortens_operands_it_is_not_used(monkeypatch):
    torch.backends.mkldnn.matmul.fp32_precision = "none"
    monkeypatch.setattr(processor, "fp32_error", lambda: 2e-3)
    assert choose_fp32_products() == "default"
    assert not multiplies_with_onednn(torch.float32)


def test_gpus_are_told_to_keep_fp32(monkeypatch):
    of_gpus = torch.backends.cuda.matmul
    of_gpus.allow_tf32 = of_gpus.allow_bf16_reduced_precision_reduction = True
    monkeypatch.setattr(torch, "set_flush_denormal", lambda _: None)  # it would hold for other tests
    monkeypatch.setattr(processor, "_choose_fp32_products_once", lambda: None)
    processor.prepare_processor()
    assert not of_gpus.allow_tf32
    assert not of_gpus.allow_bf16_reduced_precision_reduction


def test_float64_never_goes_there():
    choose_fp32_products()
    assert not multiplies_with_onednn(torch.float64)
