"""Each form is recognised in profiles that were made with it."""

import numpy as np
import pytest

from analysis.growth_forms import NOT_SHOWN, compare_forms, compare_growth_forms
from tests.simulated_studies import Truth, make_empty, simulate_study

LAYERS = np.arange(40.0)
SHAPES = {"exponential": 0.08 * LAYERS, "power": 1.5 * np.log10(1 + LAYERS), "stretched": 0.02 * LAYERS**1.5}


@pytest.mark.parametrize("form", SHAPES)
def test_forms_are_recognised(form):
    noise = 0.01 * np.random.default_rng(0).standard_normal((5, 40)).cumsum(axis=1)
    result = compare_forms((SHAPES[form] + noise)[:, ::-1] + 3.0)
    assert result.best == form
    assert min(result.errors, key=result.errors.get) == form or form == "exponential"
    if form == "stretched":
        assert result.exponent == pytest.approx(1.5, abs=0.03)


def test_an_exact_exponential_has_no_error():
    result = compare_forms(np.tile(SHAPES["exponential"], (2, 1))[:, ::-1])
    assert (result.best, result.exponent) == ("exponential", 1.0)
    assert result.errors["exponential"] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("growth", [0 * LAYERS, np.where(LAYERS > 0, 1.0, 0.0), LAYERS**4.0])
def test_an_exponent_beyond_those_tried_is_none(growth):
    result = compare_forms(np.tile(growth, (3, 1))[:, ::-1])
    assert result.exponent is None
    assert result.note == "no exponent between 0.2 and 3 fits best"


def test_where_growth_is_not_shown_there_is_no_form():
    noise = 0.01 * np.random.default_rng(0).standard_normal((5, 40))
    assert compare_forms(noise).best == NOT_SHOWN
    assert compare_forms(np.zeros((3, 40))).best == NOT_SHOWN
    assert compare_forms(noise + SHAPES["exponential"][::-1]).best == "exponential"


def test_errors_are_of_the_seed_that_was_left_out():
    # The other's slope is 0.2 less for the first seed and 0.2 more for the second.
    profiles = np.outer([0.1, 0.3], np.arange(6.0))[:, ::-1]
    expected = 0.2 * np.sqrt(np.mean(np.arange(1, 6.0) ** 2))
    assert compare_forms(profiles).errors["exponential"] == pytest.approx(expected)


def test_the_deepest_networks_of_a_study_are_compared():
    (row,) = compare_growth_forms(simulate_study(Truth(depths=(10, 50), layer_noise=0.02))).table.itertuples()
    assert (row.depth, row.seeds, row.best) == (50, 4, "exponential")
    assert row.power_error > 3 * row.exponential_error


@pytest.mark.parametrize(
    ("profiles", "note"),
    [
        (np.zeros((1, 9)), "there is 1 alone"),
        (np.full((3, 9), np.nan), "there is none alone"),
        (np.zeros((3, 3)), "from 5 layers on"),
        (np.zeros((0, 0)), "from 5 layers on"),
    ],
)
def test_too_little_is_said(profiles, note):
    result = compare_forms(profiles)
    assert result.best is None
    assert note in result.note


def test_an_empty_study_says_why():
    assert "no network" in compare_growth_forms(make_empty(simulate_study(Truth()))).note
