"""Products of members against plain matrix products, and each member against itself alone."""

import random

import pytest
import torch

from study.member_products import multiply_members

# Sizes beside which the last bits of a batched product were seen to depend on the batch.
AWKWARD_SIZES = (1, 2, 3, 7, 10, 31, 37, 64, 100, 109, 128, 145, 333)


def make_operands(shape, members=5, dtype=torch.float32):
    batch, fan_in, fan_out = shape
    generator = torch.Generator().manual_seed(0)
    bias = torch.randn(members, fan_out, generator=generator, dtype=dtype).requires_grad_()
    x = torch.randn(members, batch, fan_in, generator=generator, dtype=dtype).requires_grad_()
    weight = torch.randn(members, fan_in, fan_out, generator=generator, dtype=dtype).requires_grad_()
    return bias, x, weight, torch.randn(members, batch, fan_out, generator=generator, dtype=dtype)


@pytest.mark.parametrize("shape", [(7, 3, 5), (128, 100, 100), (1, 1, 1)])
def test_value_and_gradients_are_those_of_matrix_products(shape):
    bias, x, weight, upstream = make_operands(shape, dtype=torch.float64)
    packed = torch.autograd.grad(multiply_members(bias, x, weight), (bias, x, weight), upstream)
    plain = torch.autograd.grad(torch.einsum("ebn,end->ebd", x, weight) + bias[:, None], (bias, x, weight), upstream)
    for ours, theirs in zip(packed, plain, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("case", range(40))
def test_members_are_bitwise_what_they_are_alone(case):
    draw = random.Random(case)
    operands = make_operands([draw.choice(AWKWARD_SIZES) for _ in range(3)], members=draw.choice([2, 3, 5, 16]))
    bias, x, weight, upstream = operands
    together = multiply_members(bias, x, weight)
    together = [together, *torch.autograd.grad(together, (bias, x, weight), upstream)]
    for member in range(len(x)):
        bias, x, weight, upstream = (
            operand.detach()[member : member + 1].clone().requires_grad_() for operand in operands
        )
        alone = multiply_members(bias, x, weight)
        alone = [alone, *torch.autograd.grad(alone, (bias, x, weight), upstream)]
        for ours, theirs in zip(together, alone, strict=True):
            assert torch.equal(ours[member], theirs[0])
