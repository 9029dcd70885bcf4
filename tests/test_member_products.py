"""Products of members against plain matrix products, and each member against itself alone."""

import random

import pytest
import torch

from study.member_products import multiply_members

# Sizes beside which the last bits of a batched product were seen to depend on the batch.
AWKWARD_SIZES = (1, 2, 3, 7, 10, 16, 31, 37, 64, 100, 109, 128, 145, 333)
DTYPES = (torch.float32, torch.bfloat16, torch.float64)


def make_operands(shape, members=5, dtype=torch.float32, transposed=(False, False)):
    batch, fan_in, fan_out = shape
    generator = torch.Generator().manual_seed(0)
    operands = []
    for rows, columns, swap in ((batch, fan_in, transposed[0]), (fan_in, fan_out, transposed[1])):
        sizes = (columns, rows) if swap else (rows, columns)
        operand = torch.randn(members, *sizes, generator=generator, dtype=torch.float64).to(dtype)
        operands.append(operand.transpose(1, 2) if swap else operand)
    return operands


@pytest.mark.parametrize("shape", [(7, 3, 5), (128, 100, 100), (1, 1, 1)])
@pytest.mark.parametrize("transposed", [(False, False), (True, False), (False, True)])
def test_values_are_those_of_matrix_products(shape, transposed):
    x, w = make_operands(shape, dtype=torch.float64, transposed=transposed)
    plain = torch.einsum("ebn,end->ebd", x, w)
    torch.testing.assert_close(multiply_members(x, w), plain, rtol=1e-12, atol=1e-12)
    out = torch.empty_like(plain)
    assert multiply_members(x, w, out=out) is out
    torch.testing.assert_close(out, plain, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("case", range(80))
def test_members_are_bitwise_what_they_are_alone(case):
    draw = random.Random(case)
    shape = [draw.choice(AWKWARD_SIZES) for _ in range(3)]
    if case >= 60:
        shape[1] = draw.choice([256, 512, 1024, 3072])
    transposed = draw.choice([(False, False), (True, False), (False, True)])
    x, w = make_operands(shape, draw.choice([2, 3, 5, 16]), DTYPES[case % 3], transposed)
    together = multiply_members(x, w)
    for member in range(len(x)):
        one = slice(member, member + 1)
        assert torch.equal(multiply_members(x[one].clone(), w[one].clone())[0], together[member])
