"""Figures leave out no network or level: what has no bound, or cannot be told, has a mark of its own, and is said."""

import dataclasses
import math

import pandas as pd
import pytest

from analysis.best_dilution import DILUTION_COLUMNS
from analysis.critical_gsc import CRITICAL_COLUMNS
from analysis.depth_figures import plot_trainable_depths
from analysis.depth_section import make_depth_section
from analysis.figure_style import spread_depths
from analysis.findings import Findings
from analysis.importance_section import make_importance_section
from analysis.rate_figures import plot_explosion_rates
from analysis.rate_section import make_rate_section
from analysis.tradeoff_figures import plot_best_dilutions, plot_critical_gsc
from analysis.tradeoff_section import make_tradeoff_section
from analysis.trainable_depth import DEPTH_COLUMNS
from tests.simulated_studies import Truth, simulate_study

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


def test_best_dilutions_stand_among_the_levels_tried_at_their_depth():
    rows = [(10, "0, 0.3333333333333333, 4", 1 / 3, 0.0, NAN), (50, "0, 4, 16", 16.0, 4.0, 16.0)]
    table = pd.DataFrame(rows, columns=["depth", "levels", "best_dilution", "low", "high"])
    table = table.assign(network="a", optimizer="adam", seeds=2).reindex(columns=DILUTION_COLUMNS)
    panel = plot_best_dilutions(table).axes[0]
    assert [label.get_text() for label in panel.get_yticklabels()] == ["0", "0.333333", "4", "16"]
    assert panel.get_lines()[0].get_ydata().tolist() == [1, 3]
    (bars,) = panel.collections
    assert [segment[:, 1].tolist() for segment in bars.get_segments()] == [[0, 2], [2, 3]]


def test_the_deepest_of_crowded_depths_is_labelled():
    assert spread_depths([10, 20, 40, 60]) == [10, 20, 60]
    assert spread_depths([3]) == [3]


def test_a_level_that_cannot_be_told_is_marked():
    rows = [("a", 0.0, 20.0, 15.0, 30.0), ("a", 4.0, NAN, NAN, NAN)]
    names = ["network", "dilution", "d50", "d50_low", "d50_high"]
    table = pd.DataFrame(rows, columns=names).assign(optimizer="adam", depths="4, 10, 50")
    figure = plot_trainable_depths(table.reindex(columns=DEPTH_COLUMNS))
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["0", "4"]
    assert markers_at(figure.axes[0], 1, axis=0) == {"x"}
    assert "cannot be told" in [text.get_text() for text in figure.legends[0].get_texts()]
    assert "16/ln χ, measured χ" not in [text.get_text() for text in figure.legends[0].get_texts()]


def test_what_never_failed_is_not_what_cannot_be_told():
    names = ["dilution", "d50", "d50_low", "d50_high", "failed", "trials"]
    rows = [(0.0, 20.0, 15.0, 30.0, 3, 6), (1.0, NAN, NAN, NAN, 3, 6), (2.0, NAN, NAN, NAN, 0, 3)]
    rows.append((4.0, NAN, NAN, NAN, 3, 3))
    table = pd.DataFrame(rows, columns=names).assign(network="a", optimizer="adam", depths="4, 10, 50")
    figure = plot_trainable_depths(table.reindex(columns=DEPTH_COLUMNS))
    panel = figure.axes[0]
    assert [markers_at(panel, place, axis=0) for place in (1, 2, 3)] == [{"x"}, {"^"}, {"v"}]
    heights = {line.get_marker(): line.get_ydata()[0] for line in panel.get_lines() if len(line.get_xdata()) == 1}
    assert (heights["^"], heights["v"]) == (50, 4)
    assert heights["x"] < 4
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert {"none failed, no bound", "all failed, no bound", "cannot be told"} < set(labels)


@pytest.mark.parametrize("seeds", [1, 3])
def test_intervals_are_spoken_of_where_there_are_some(seeds):
    truth = Truth(depths=(4, 10, 25), dilutions=(0.0, 1.0, 4.0), epochs=(0.0, 1.0), seeds=seeds, best_dilution=1.0)
    rates = {("batch", "relu"): 1.2, ("layer", "tanh"): 1.08}
    noisy = {"spread": 0.3, "layer_noise": 0.05, "error_noise": 0.01, "trainable_depth": 10.0}
    findings = Findings(simulate_study(dataclasses.replace(truth, rates=rates, **noisy)))
    makers = (make_depth_section, make_tradeoff_section, make_rate_section, make_importance_section)
    sections = [make(findings) for make in makers]
    captions = {drawing.name: drawing.caption for section in sections for drawing in section.drawings}
    speaking = {name for name, caption in captions.items() if "95% interval" in caption or "bars" in caption}
    over_seeds = {"best_dilution", "explosion_rates", "explosion_rates_by_epoch", "importance"}
    assert over_seeds < set(captions)
    assert speaking & over_seeds == (over_seeds if seeds > 1 else set())
    assert ("the stronger the surer" in captions["pareto_front"]) == (seeds > 1)
    (table,) = [table for table in sections[1].tables if table.name == "pareto_front"]
    note = "One seed in some cell: membership has no probability (in every row)."
    assert table.legend == ("" if seeds > 1 else note)
    assert "note" not in table.headings
    (label,) = [
        text.get_text()
        for text in plot_explosion_rates(findings.rates.table, findings.law.table).legends[0].get_texts()
        if text.get_text().startswith("measured")
    ]
    assert ("interval" in label) == (seeds > 1)


def test_few_outcomes_have_no_interval_of_d50_to_speak_of():
    truth = Truth(depths=(4, 10, 25), seeds=1, trainable_depth=10.0)
    few, many = (
        make_depth_section(Findings(simulate_study(dataclasses.replace(truth, seeds=seeds)))).drawings[1].caption
        for seeds in (1, 4)
    )
    assert "too few for intervals" in few
    assert "95% interval" in many
    assert "95% interval" not in few
