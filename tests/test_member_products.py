"""Products of members against plain matrix products, and each member against itself alone."""

import random

import pytest
import torch

from study import member_products
from study.member_products import multiply_members

# Sizes beside which the last bits of a batched product were seen to depend on the batch.
AWKWARD_SIZES = (1, 2, 3, 7, 10, 16, 31, 37, 64, 100, 109, 128, 145, 333)
TOLERANCES = {torch.float32: 1e-4, torch.bfloat16: 2**-8, torch.float64: 1e-12}
"""bfloat16 keeps 8 bits of a result; the sums themselves are in fp32."""
DTYPES = tuple(TOLERANCES)


def make_operands(shape, members=5, dtype=torch.float32, transposed=(False, False)):
    batch, fan_in, fan_out = shape
    generator = torch.Generator().manual_seed(0)
    operands = []
    for rows, columns, swap in ((batch, fan_in, transposed[0]), (fan_in, fan_out, transposed[1])):
        sizes = (columns, rows) if swap else (rows, columns)
        operand = torch.randn(members, *sizes, generator=generator, dtype=torch.float64).to(dtype)
        operands.append(operand.transpose(1, 2) if swap else operand)
    return operands


def multiply_into(x, w):
    out = torch.full((len(x), x.shape[1], w.shape[2]), 7, dtype=x.dtype)
    assert multiply_members(x, w, out=out) is out
    return out


@pytest.fixture(params=["returned", "written", "written without the library"])
def multiply(request, monkeypatch):
    """The ways to a product: torch's, which has a derivative, and the library's or torch's into a given tensor."""
    if request.param == "written without the library":
        monkeypatch.setattr(member_products, "multiplies_natively", lambda device_type, dtype: False)
    return multiply_members if request.param == "returned" else multiply_into


@pytest.mark.parametrize(
    "shape", [(7, 3, 5), (128, 100, 100), (1, 1, 1), (5, 600, 33), (13, 16, 128), (150, 37, 101), (3, 1025, 70)]
)
@pytest.mark.parametrize("transposed", [(False, False), (True, False), (False, True)])
def test_values_are_those_of_matrix_products(multiply, shape, transposed):
    for dtype, tolerance in TOLERANCES.items():
        x, w = make_operands(shape, dtype=dtype, transposed=transposed)
        plain = torch.einsum("ebn,end->ebd", x.double(), w.double())
        torch.testing.assert_close(multiply(x, w).double(), plain, rtol=tolerance, atol=tolerance)


def test_members_may_share_one_matrix(multiply):
    for dtype in DTYPES:
        x, w = make_operands((20, 300, 37), dtype=dtype)
        shared, alone = multiply(x, w[:1].expand(5, -1, -1)), multiply(x, w[:1].repeat(5, 1, 1))
        assert torch.equal(shared, alone)


@pytest.mark.parametrize("dtype", DTYPES)
def test_only_the_tensor_given_is_written(dtype):
    x, w = make_operands((6, 20, 37), dtype=dtype)
    around = torch.full((5, 8, 40), 7, dtype=dtype)
    multiply_members(x, w, out=around[:, 1:-1, 1:-2])
    assert (around[:, 1:-1, 1:-2] != 7).all()
    assert (around != 7).sum() == 5 * 6 * 37


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_not_finite_stays_in_its_row(dtype):
    x, w = make_operands((20, 31, 17), dtype=dtype)
    x[0, 3, 5], x[0, 4, 5] = float("inf"), float("nan")
    out = multiply_into(x, w)
    assert out[0, 3].isinf().all()
    assert out[0, 4].isnan().all()
    assert out.isfinite().all(dim=2).sum() == 5 * 20 - 2


@pytest.mark.parametrize("case", range(80))
def test_members_are_bitwise_what_they_are_alone(multiply, case):
    draw = random.Random(case)
    shape = [draw.choice(AWKWARD_SIZES) for _ in range(3)]
    if case >= 60:
        shape[1] = draw.choice([256, 512, 1024, 3072])
    transposed = draw.choice([(False, False), (True, False), (False, True)])
    x, w = make_operands(shape, draw.choice([2, 3, 5, 16]), DTYPES[case % 3], transposed)
    together = multiply(x, w)
    for member in range(len(x)):
        one = slice(member, member + 1)
        assert torch.equal(multiply(x[one].clone(), w[one].clone())[0], together[member])


@pytest.mark.parametrize("transposed", [(False, False), (True, False), (False, True)])
@pytest.mark.parametrize("shape", [(7, 129, 10), (31, 129, 5), (31, 100, 10), (7, 100, 10), (7, 48, 33), (31, 200, 7)])
def test_members_that_begin_between_cache_lines_are_what_they_are_alone(multiply, shape, transposed):
    x, w = make_operands(shape, members=3, transposed=transposed)
    together = multiply(x, w)
    for member in range(3):
        one = slice(member, member + 1)
        assert torch.equal(multiply(x[one].clone(), w[one].clone())[0], together[member])
