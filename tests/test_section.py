"""Tables of a report: cells that are never nan, numbers that are never cut, columns and notes left out."""

import io
import math

import pandas as pd
import pytest
from rich.console import Console

from analysis.section import (
    apart,
    fixed,
    interval,
    make_console_table,
    make_cross_table,
    make_table,
    number,
    p_value,
    text,
    write_number,
)

NAN = math.nan


def test_cells_of_tables_are_never_nan():
    frame = pd.DataFrame({"a": [1.5, NAN], "low": [1.0, NAN], "high": [NAN, 2.0], "p": [1e-9, NAN], "t": ["x", None]})
    cells = {"a": fixed("a", 2), "n": number("a"), "i": interval("low", "high", 1), "p": p_value("p"), "t": text("t")}
    table = make_table("some", "Some", frame, cells)
    assert table.rows == [["1.50", "1.5", "≥ 1.0", "< 0.0001", "x"], ["–", "–", "≤ 2.0", "–", ""]]
    assert table.numeric == [True, True, True, True, False]


def test_nothing_has_a_sign_of_its_own():
    frame = pd.DataFrame({"a": [-0.001], "low": [-0.004], "high": [-0.1]})
    table = make_table("some", "Some", frame, {"a": fixed("a", 2), "i": interval("low", "high", 2)})
    assert table.rows == [["0.00", "0.00 to -0.10"]]


def test_a_note_of_every_row_is_said_once():
    frame = pd.DataFrame({"a": [1.0, 2.0], "note": ["one seed: no interval"] * 2})
    table = make_table("some", "Some", frame, {"a": fixed("a", 0), "note": text("note")}, "A legend.")
    assert (table.headings, table.rows) == (["a"], [["1"], ["2"]])
    assert table.legend == "A legend. One seed: no interval (in every row)."
    assert table.frame is frame
    alone = make_table("some", "Some", frame[:1], {"a": fixed("a", 0), "note": text("note")})
    assert alone.rows == [["1", "one seed: no interval"]]
    frame.loc[1, "note"] = ""
    assert make_table("some", "Some", frame, {"a": fixed("a", 0), "note": text("note")}).headings == ["a", "note"]


def test_columns_that_hold_nothing_are_left_out():
    table = make_table("some", "Some", pd.DataFrame({"a": [NAN], "b": [1.0]}), {"a": fixed("a"), "b": fixed("b")})
    assert (table.headings, table.rows) == (["b"], [["1.000"]])


@pytest.mark.parametrize(
    ("value", "written"),
    [(0, "0"), (34.12, "34.1"), (1234.6, "1235"), (100.0, "100"), (0.000012, "1.20e-05"), (NAN, "–"), (math.inf, "–")],
)
def test_numbers(value, written):
    assert write_number(value) == written


def test_levels_that_hardly_differ_have_rows_of_their_own():
    levels = [1.001, 1.004, 1.0]
    frame = pd.DataFrame({"network": "a", "k": levels, "depth": [4.0, 4.0004, 4.0], "error": ["x", "y", "z"]})
    crossed = make_cross_table("some", "Some", frame, {"network": "network", "k": "k"}, "depth", text("error"))
    assert crossed.headings == ["network", "k", "depth 4", "depth 4.0004"]
    assert crossed.rows == [["a", "1.001", "x", ""], ["a", "1.004", "", "y"], ["a", "1", "z", ""]]
    assert [row[0] for row in make_table("some", "Some", frame, {"k": apart(frame, "k")}).rows] == [
        "1.001",
        "1.004",
        "1",
    ]


def test_a_column_with_infinity_is_one_of_numbers():
    frame = pd.DataFrame({"a": ["12", "∞", "–"]})
    assert make_table("some", "Some", frame, {"a": text("a")}).numeric == [True]


def test_no_number_is_cut_in_a_narrow_terminal():
    frame = pd.DataFrame({"a": [1.234567], "b": [-0.123456], "note": ["3 trainings failed, " * 9]})
    table = make_table("some", "Some", frame, {"a": number("a"), "b": fixed("b", 6), "note": text("note")})
    assert table.numeric == [True, True, False]
    console = Console(width=20, file=io.StringIO())
    shown = make_console_table(table, console.width)
    console.print(shown, width=shown.width, crop=False)
    assert "-0.123456" in console.file.getvalue()
    assert "…" not in console.file.getvalue()
