"""The three sentences say what the estimates say: intervals, open bounds, and what cannot be told."""

import io
import math

import pandas as pd
import pytest
from rich.console import Console

from analysis.best_dilution import DILUTION_COLUMNS, BestDilutions
from analysis.section import fixed, interval, make_console_table, make_table, number, p_value, text, write_number
from analysis.statements import say_how_deep, say_what_fixes, say_what_stops
from analysis.tradeoff import COEFFICIENT_COLUMNS, GSC, Tradeoff
from analysis.trainable_depth import DEPTH_COLUMNS, TrainableDepths

NAN = math.nan


def make_depths(*rows, note=""):
    """Rows of network, k, D50 and its bounds."""
    names = ["network", "dilution", "d50", "d50_low", "d50_high"]
    table = pd.DataFrame([dict(zip(names, row, strict=True)) for row in rows], columns=names)
    return TrainableDepths(table.assign(optimizer="adam", note="").reindex(columns=DEPTH_COLUMNS), 0.6, note)


def make_best(network="a", depth=50, best=4.0, low=2.0, high=NAN, error=0.4, without=0.9, kept="2, 4"):
    row = {"network": network, "optimizer": "adam", "depth": depth, "best_dilution": best, "low": low, "high": high}
    row |= {"error": error, "error_without": without, "not_excluded": kept, "note": ""}
    return BestDilutions(pd.DataFrame([row]).reindex(columns=DILUTION_COLUMNS))


def make_tradeoff(coefficient, low, high, depth_adds="Given GSC, depth adds nothing."):
    row = {"term": GSC, "coefficient": coefficient, "low": low, "high": high, "note": ""}
    nothing = pd.DataFrame()
    table = pd.DataFrame([row]).reindex(columns=COEFFICIENT_COLUMNS)
    return Tradeoff(table, nothing, nothing, depth_adds, 0.5, "", None, {}, 0.6)


def test_the_shallowest_and_the_deepest_without_skip_paths_are_named():
    said = say_how_deep(
        make_depths(
            ("b", 0.0, 60.0, 50.0, 70.0),
            ("a", 0.0, 20.0, 15.0, 27.0),
            ("c", 0.0, NAN, 90.0, NAN),
            ("a", 4.0, 99.0, 80.0, NAN),
        )
    )
    assert (
        "without skip paths (k = 0) fail at depth 20 (95% interval 15 to 27) for a with adam, the shallowest of 3"
        in said
    )
    assert said.endswith("only beyond depth 90 (95% bound) for c with adam, the deepest.")


def test_networks_that_share_the_greatest_depth_are_named_together():
    beyond, further = (NAN, 90.0, NAN), (95.0, 80.0, NAN)
    shallow = ("s", 0.0, 20.0, 15.0, 27.0)
    said = say_how_deep(make_depths(("b", 0.0, *beyond), shallow, ("d", 0.0, *further), ("c", 0.0, *beyond)))
    assert "for s with adam, the shallowest of 4" in said
    assert said.endswith("only beyond depth 90 (95% bound) for b with adam and c with adam, the deepest.")
    said = say_how_deep(make_depths(shallow, *((name, 0.0, *beyond) for name in "bcd")))
    assert said.endswith("only beyond depth 90 (95% bound) for b with adam and 2 more, the deepest.")
    said = say_how_deep(make_depths(*((name, 0.0, *beyond) for name in "bcd")))
    assert said == (
        "Half of the trainings without skip paths (k = 0) fail only beyond depth 90 (95% bound) for all 3 networks "
        "and optimizers."
    )


def test_one_network_and_a_least_dilution_that_is_not_0():
    assert say_how_deep(make_depths(("a", 1.0, 20.0, 15.0, NAN))) == (
        "Half of the trainings of a with adam with the least dilution tried (k = 1) fail at depth 20 "
        "(95%: at least 15)."
    )


def test_what_cannot_be_told_says_why():
    assert say_how_deep(make_depths(note="One depth only.")).endswith("cannot be told: One depth only.")
    assert say_what_fixes(BestDilutions(pd.DataFrame(columns=DILUTION_COLUMNS), "One level."), make_depths()).endswith(
        "cannot be told: One level."
    )


@pytest.mark.parametrize(
    ("numbers", "beginning", "odds"),
    [
        ((1.0, 0.5, 2.0), "Exploding gradients stop training", "by 10 (95% interval 3.16 to 100)"),
        ((1.0, -0.5, 2.0), "That exploding gradients stop training is not shown", "by 10 (95% interval 0.316 to 100)"),
        ((-1.0, -2.0, -0.5), "Exploding gradients are not what stops", "by 0.1 (95% interval 0.01 to 0.316)"),
        (
            (9.0, 1.0, 30.0),
            "Exploding gradients stop training",
            "by more than a million (95% interval 10 to more than a",
        ),
        ((1.0, 0.5, NAN), "Exploding gradients stop training", "by 10; given GSC"),
    ],
)
def test_odds_of_failure(numbers, beginning, odds):
    said = say_what_stops(make_tradeoff(*numbers))
    assert said.startswith(beginning)
    assert odds in said
    assert said.endswith("; given GSC, depth adds nothing.")


def test_an_effect_that_does_not_hold_between_networks_is_not_called_general():
    tradeoff = make_tradeoff(1.0, 0.5, 2.0)
    tradeoff.coefficients[["low_between_networks", "high_between_networks"]] = [-0.5, 2.5]
    said = say_what_stops(tradeoff)
    assert said.startswith("Exploding gradients go with failure in these networks")
    assert "differ too much to say that it holds for others (95% interval between networks 0.316 to 316)" in said


def test_what_dilution_does():
    depths = make_depths(("a", 0.0, 20.0, 15.0, 27.0), ("a", 4.0, NAN, 90.0, NAN))
    said = say_what_fixes(make_best(), depths)
    assert said.startswith(
        "Dilution fixes it: at depth 50, a with adam has its smallest training error with k = 4 (95%:"
    )
    assert "0.40 instead of 0.90 without" in said
    assert said.endswith("fail only beyond depth 90 (95% bound) with it, at depth 20 (95% interval 15 to 27) without.")
    assert say_what_fixes(make_best(kept="0, 4"), depths).startswith("That dilution fixes it is not shown")
    assert say_what_fixes(make_best(best=0.0, error=0.9, kept="0"), depths).startswith("No dilution that was tried")


def test_cells_of_tables_are_never_nan():
    frame = pd.DataFrame({"a": [1.5, NAN], "low": [1.0, NAN], "high": [NAN, 2.0], "p": [1e-9, NAN], "t": ["x", None]})
    cells = {"a": fixed("a", 2), "n": number("a"), "i": interval("low", "high", 1), "p": p_value("p"), "t": text("t")}
    table = make_table("some", "Some", frame, cells)
    assert table.rows == [["1.50", "1.5", "≥ 1.0", "< 0.0001", "x"], ["–", "–", "≤ 2.0", "–", ""]]
    assert table.numeric == [True, True, True, True, False]


def test_columns_that_hold_nothing_are_left_out():
    table = make_table("some", "Some", pd.DataFrame({"a": [NAN], "b": [1.0]}), {"a": fixed("a"), "b": fixed("b")})
    assert (table.headings, table.rows) == (["b"], [["1.000"]])


@pytest.mark.parametrize(
    ("value", "written"),
    [(0, "0"), (34.12, "34.1"), (1234.6, "1235"), (100.0, "100"), (0.000012, "1.20e-05"), (NAN, "–"), (math.inf, "–")],
)
def test_numbers(value, written):
    assert write_number(value) == written


def test_no_number_is_cut_in_a_narrow_terminal():
    frame = pd.DataFrame({"a": [1.234567], "b": [-0.123456], "note": ["3 trainings failed, " * 9]})
    table = make_table("some", "Some", frame, {"a": number("a"), "b": fixed("b", 6), "note": text("note")})
    assert table.numeric == [True, True, False]
    console = Console(width=20, file=io.StringIO())
    shown = make_console_table(table, console.width)
    console.print(shown, width=shown.width, crop=False)
    assert "-0.123456" in console.file.getvalue()
    assert "…" not in console.file.getvalue()
