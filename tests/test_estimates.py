"""How estimates are written."""

import math

import pytest

from analysis.estimates import Estimate, parse_list, write_list, write_p


@pytest.mark.parametrize(
    ("estimate", "written"),
    [
        (Estimate(34.12, 28.2, 41.0), "34.1 (28.2 to 41)"),
        (Estimate(34.12, 28.2, None), "34.1 (≥ 28.2)"),
        (Estimate(None, 84.0, None, "none failed"), "≥ 84"),
        (Estimate(None, None, 4.0, "all failed"), "≤ 4"),
        (Estimate(None, 1.0, 2.0), "1 to 2"),
        (Estimate(34.12), "34.1"),
        (Estimate(math.nan, math.inf, -math.inf, "why"), "why"),
    ],
)
def test_writing(estimate, written):
    assert estimate.write() == written


def test_containing():
    assert Estimate(1, 0, None).contains(1e9)
    assert not Estimate(1, 0, 2).contains(3)
    assert not Estimate(1).contains(1)
    assert math.isnan(Estimate(1).as_columns("x")["x_low"])


def test_p_values():
    assert (write_p(0.0312), write_p(1e-9)) == ("p = 0.031", "p < 0.001")


def test_lists_in_a_cell_keep_every_digit():
    assert write_list([0, 4.0, 16]) == "0, 4, 16"
    numbers = [0, 1 / 3, 2**0.5, 1234567, 1e-9]
    assert parse_list(write_list(numbers)) == numbers
    assert parse_list("4") == [4]
