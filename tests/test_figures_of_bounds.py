"""Figures leave out no network or level: what has no bound, or cannot be told, has a mark of its own."""

import math

import pandas as pd

from analysis.depth_figures import plot_trainable_depths
from analysis.tradeoff import CRITICAL_COLUMNS
from analysis.tradeoff_figures import plot_critical_gsc
from analysis.trainable_depth import DEPTH_COLUMNS

NAN = math.nan


def markers_at(panel, place, axis):
    """Return the markers whose x (axis 0) or y (axis 1) is `place`."""
    lines = [line for line in panel.get_lines() if len(line.get_xdata()) == 1]
    return {line.get_marker() for line in lines if abs(line.get_xydata()[0, axis] - place) < 0.3}


def draw_critical(*rows):
    names = ["network", "critical_log10_gsc", "low", "high"]
    table = pd.DataFrame([dict(zip(names, row, strict=True)) for row in rows]).assign(optimizer="adam", training="adam")
    table["architecture"] = table["network"]
    return plot_critical_gsc(table.reindex(columns=CRITICAL_COLUMNS), {}).axes[0]


def test_an_estimate_without_bounds_has_arrows_on_both_sides():
    panel = draw_critical(("a", 1.0, 0.5, 1.5), ("b", 0.9, NAN, NAN))
    assert [label.get_text() for label in panel.get_yticklabels()] == ["b", "a"]
    assert markers_at(panel, 0, axis=1) == {"o", "<", ">"}
    assert markers_at(panel, 1, axis=1) == {"o"}


def test_one_far_beyond_all_others_does_not_set_the_scale():
    panel = draw_critical(("a", 1.0, 0.5, 1.5), ("b", 40.0, NAN, NAN))
    assert panel.get_xlim()[1] < 3
    assert markers_at(panel, 0, axis=1) == set()


def test_a_level_that_cannot_be_told_is_marked():
    rows = [("a", 0.0, 20.0, 15.0, 30.0), ("a", 4.0, NAN, NAN, NAN)]
    names = ["network", "dilution", "d50", "d50_low", "d50_high"]
    table = pd.DataFrame(rows, columns=names).assign(optimizer="adam", depths="4, 10, 50")
    figure = plot_trainable_depths(table.reindex(columns=DEPTH_COLUMNS))
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["0", "4"]
    assert markers_at(figure.axes[0], 1, axis=0) == {"x"}
    assert "cannot be told" in [text.get_text() for text in figure.legends[0].get_texts()]
    assert "16/ln χ, measured χ" not in [text.get_text() for text in figure.legends[0].get_texts()]
