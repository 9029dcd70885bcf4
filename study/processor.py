"""A process that is to train → the settings of torch that make it fast without making it wrong."""

import functools
import os

import torch

from study.user_cache import cache_folder

FP32_TOLERANCE = 1e-5
"""Relative error of a product that is really fp32; bf16 would give about 2e-3."""


def prepare_processor() -> None:
    """Use one thread, flush denormal numbers, and multiply fp32 matrices with the fastest library that keeps fp32.

    The first two hold for the thread that calls this, the third for the whole process. GPUs are not to shorten operands
    to TF32, which some container images ask for, nor sums of bfloat16 products.
    """
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
    _choose_fp32_products_once()


def choose_fp32_products() -> str:
    """Let oneDNN multiply fp32 matrices where it keeps fp32; return the library in use, "oneDNN" or "default".

    On processors with 16-bit matrix units the same switch shortens the operands, so the error decides.
    """
    if not torch.backends.mkldnn.is_available():
        return "default"
    products = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before, products.fp32_precision = products.fp32_precision, "bf16"
    if fp32_error() < FP32_TOLERANCE:
        return "oneDNN"
    products.fp32_precision = before
    return "default"


_choose_fp32_products_once = functools.cache(choose_fp32_products)


def multiplies_with_onednn(dtype: torch.dtype) -> bool:
    """Say whether torch passes products of this type to oneDNN, as it does with bfloat16 by itself."""
    if not torch.backends.mkldnn.is_available():
        return False
    if dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    products = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    return dtype == torch.float32 and products.fp32_precision == "bf16"


def fp32_error(size: int = 256, device: str = "cpu") -> float:
    """Return the largest error of products of fp32 matrices, relative to the root mean square of their entries."""
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 2, size, size, generator=generator, dtype=torch.float64).float().to(device)
    exact = a.double() @ b.double()
    return float((torch.bmm(a, b) - exact).abs().max() / exact.square().mean().sqrt())


def keep_compiled_kernels() -> None:
    """Let torch's compiler keep its kernels for every later process; what is set already stays."""
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # else every worker starts helpers of its own
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_folder("kernels")))
