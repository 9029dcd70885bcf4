"""Calls of the compiled library that are written down once and made again and again."""

import gc

import pytest
import torch

from study.native_calls import _as_word, written_down
from study.native_kernels import multiply
from study.native_library import has_function

from tests.marks import needs_compiler  # isort: skip

pytestmark = needs_compiler


def test_calls_written_down_are_made_in_order_whenever_asked():
    x, w = torch.ones(1, 2, 3), torch.full((1, 3, 4), 2.0)
    first, second = torch.zeros(1, 2, 4), torch.zeros(1, 2, 2)

    def square_of_sums():
        multiply(x, w, first)
        multiply(first, first.mT, second)

    calls = written_down(square_of_sums)
    assert not second.any()
    for factor in (1.0, 3.0):
        x.fill_(factor)
        calls.make()
        assert (second == 4 * (6 * factor) ** 2).all()
    square_of_sums()  # again at once
    assert (second == 4 * 18**2).all()


def test_what_raises_while_it_is_written_down_leaves_calls_as_they_were():
    def fail():
        raise ValueError("interrupted")

    with pytest.raises(ValueError, match="interrupted"):
        written_down(fail)
    out = torch.zeros(1, 1, 1)
    multiply(torch.ones(1, 1, 2), torch.ones(1, 2, 1), out)
    assert out.item() == 2


def test_a_list_keeps_its_tensors():
    out = torch.zeros(1, 1, 1)
    calls = written_down(lambda: multiply(torch.ones(1, 1, 2), torch.full((1, 2, 1), 3.0), out))
    gc.collect()
    torch.zeros(1, 1, 2).fill_(7), torch.zeros(1, 2, 1).fill_(7)  # would take their places
    calls.make()
    assert out.item() == 6


def test_arguments_are_integers_addresses_and_the_bits_of_floats():
    x = torch.zeros(1)
    assert [_as_word(argument) for argument in (7, None, x)] == [7, 0, x.data_ptr()]
    assert _as_word(1.0) == 0x3FF0000000000000
    assert _as_word(-0.0) == -(2**63)


def test_what_the_library_does_not_have_is_not_there():
    assert has_function("multiply", (torch.float32,))
    assert not has_function("divide", (torch.float32,))
