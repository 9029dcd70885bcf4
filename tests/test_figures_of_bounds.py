"""Figures leave out no network or level: what has no bound, or cannot be told, has a mark of its own, and is said."""

import dataclasses
import math
import warnings

import pandas as pd
import pytest

from analysis import figure_style
from analysis.best_dilution import DILUTION_COLUMNS
from analysis.critical_gsc import CRITICAL_COLUMNS
from analysis.depth_figures import plot_error_by_depth, plot_trainable_depths
from analysis.depth_section import make_depth_section
from analysis.estimates import Estimate
from analysis.figure_labels import spread_depths, wrap_name
from analysis.figure_style import level_colors
from analysis.findings import Findings
from analysis.fits import ERROR_COLUMNS
from analysis.importance import Importance
from analysis.importance_section import make_importance_section
from analysis.rate_figures import EMPTY, limit_rates, plot_explosion_rates, plot_gsc_by_layer, some_are_cut
from analysis.rate_section import make_rate_section
from analysis.tradeoff_figures import plot_best_dilutions, plot_critical_gsc
from analysis.tradeoff_section import make_tradeoff_section
from analysis.trainable_depth import DEPTH_COLUMNS
from tests.simulated_studies import Truth, simulate_study

NAN = math.nan


@pytest.fixture(autouse=True)
def _small_pictures(monkeypatch):
    monkeypatch.setattr(figure_style, "DOTS_PER_INCH", 40)


def markers_at(panel, place, axis):
    """Return the markers whose x (axis 0) or y (axis 1) is `place`."""
    lines = [line for line in panel.get_lines() if len(line.get_xdata()) == 1]
    return {line.get_marker() for line in lines if abs(line.get_xydata()[0, axis] - place) < 0.3}


def draw_critical(*rows, pooled=None):
    names = ["network", "critical_log10_gsc", "low", "high", "failed", "least_log10_gsc", "greatest_log10_gsc"]
    table = pd.DataFrame([dict(zip(names, (*row, 3, 0.0, 8.0)[:7], strict=True)) for row in rows])
    table = table.assign(optimizer="adam", training="adam", architecture=table["network"], trials=6)
    return plot_critical_gsc(table.reindex(columns=CRITICAL_COLUMNS), {"adam": pooled or Estimate()}).axes[0]


def draw_depths(*rows):
    names = ["network", "dilution", "d50", "d50_low", "d50_high", "rule_depth", "depths"]
    table = pd.DataFrame([dict(zip(names, row, strict=True)) for row in rows]).assign(optimizer="adam")
    return plot_trainable_depths(table.reindex(columns=DEPTH_COLUMNS))


def heights_of(panel, marker):
    """Return the y of all single points with a marker."""
    return [line.get_ydata()[0] for line in panel.get_lines() if line.get_marker() == marker]


def test_an_estimate_without_bounds_has_arrows_on_both_sides():
    panel = draw_critical(("a", 1.0, 0.5, 1.5), ("b", 0.9, NAN, NAN))
    assert [label.get_text() for label in panel.get_yticklabels()] == ["b", "a"]
    assert markers_at(panel, 0, axis=1) == {"o", "<", ">"}
    assert markers_at(panel, 1, axis=1) == {"o"}


def test_one_far_beyond_all_others_does_not_set_the_scale():
    panel = draw_critical(("a", 1.0, 0.5, 1.5), ("b", 40.0, NAN, NAN))
    assert panel.get_xlim()[1] < 3
    assert markers_at(panel, 0, axis=1) == {"<", ">"}


def test_an_estimate_among_the_gsc_that_were_measured_is_in_the_panel():
    panel = draw_critical(("a", 1.0, 0.5, 1.5), ("b", 6.0, NAN, NAN))
    assert panel.get_xlim()[1] > 6
    assert markers_at(panel, 0, axis=1) == {"o", "<", ">"}


def test_what_all_networks_share_lies_in_the_panel():
    panel = draw_critical(("a", 1.0, 0.5, 1.5), pooled=Estimate(4.0, 3.0, 200.0))
    left, right = panel.get_xlim()
    assert left < 0.5 < 4.0 < 8.0 < right < 10


def test_networks_that_never_or_always_fail_have_a_row_that_says_so():
    panel = draw_critical(("a", 1.0, 0.5, 1.5), ("b", NAN, NAN, NAN, 0, 0.0, 6.0), ("c", NAN, NAN, NAN, 6, 0.2, 7.0))
    (never,), (always,) = ([line for line in panel.get_lines() if line.get_marker() == marker] for marker in "><")
    assert (never.get_xdata()[0], never.get_ydata()[0], never.get_markerfacecolor()) == (6.0, 1, "none")
    assert (always.get_xdata()[0], always.get_ydata()[0], always.get_markerfacecolor()) == (0.2, 0, "none")
    assert panel.get_xlim()[0] < 0.2 < 6.0 < panel.get_xlim()[1]


def test_an_interval_far_beyond_what_was_measured_has_an_arrow():
    panel = draw_critical(("a", 1.0, 0.5, 1.5), ("b", 2.0, 0.0, 90.0))
    assert panel.get_xlim()[1] < 10
    assert markers_at(panel, 0, axis=1) == {"o", ">"}


def test_long_names_leave_room_for_what_they_name():
    name = "batch-leaky_relu initialization=looks_linear gain=critical width=100 epochs="
    panel = draw_critical(*((f"{name}{epochs}", 1.0, 0.5, 1.5) for epochs in (5, 50)))
    figure = panel.get_figure()
    figure.draw_without_rendering()
    assert panel.bbox.width > 0.4 * figure.bbox.width
    boxes = [label.get_window_extent() for label in panel.get_yticklabels()]
    assert min(box.x0 for box in boxes) >= 0
    assert not boxes[0].overlaps(boxes[1])


def test_names_are_not_broken_inside_of_words():
    name = "batch-leaky_relu initialization=looks_linear, adam"
    assert wrap_name(name, 16) == ["batch-leaky_relu", "initialization=", "looks_linear,", "adam"]
    assert wrap_name("extraordinarily", 5) == ["extraordinarily"]


def test_best_dilutions_stand_among_the_levels_tried_at_their_depth():
    rows = [(10, "0, 0.3333333333333333, 4", 1 / 3, 0.0, NAN), (50, "0, 4, 16", 16.0, 4.0, 16.0)]
    table = pd.DataFrame(rows, columns=["depth", "levels", "best_dilution", "low", "high"])
    table = table.assign(network="a", optimizer="adam", seeds=2).reindex(columns=DILUTION_COLUMNS)
    panel = plot_best_dilutions(table).axes[0]
    assert [label.get_text() for label in panel.get_yticklabels()] == ["0", "0.333", "4", "16"]
    assert heights_of(panel, "o") == [1, 3]
    assert [bar.get_segments()[0][:, 1].tolist() for bar in panel.collections] == [[0, 2.3], [2, 3]]
    assert heights_of(panel, "^") == [2.3]


def test_a_best_dilution_without_an_interval_has_no_bar():
    rows = [("a", 10, 1.0, NAN, NAN), ("a", 50, 1.0, 0.0, 4.0), ("b", 10, NAN, NAN, NAN)]
    table = pd.DataFrame(rows, columns=["network", "depth", "best_dilution", "low", "high"])
    table = table.assign(levels="0, 1, 4", optimizer="adam", seeds=2).reindex(columns=DILUTION_COLUMNS)
    figure = plot_best_dilutions(table)
    assert [len(panel.collections) for panel in figure.axes] == [1, 0]
    assert markers_at(figure.axes[1], 0, axis=0) == {"x"}
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["adam, 95% interval", "all levels alike"]


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


def test_no_depth_lies_outside_of_its_panel():
    rows = [("a", 0.0, 12.0, 1.0, 900.0, 9.0, "4, 10, 20"), ("b", 0.0, NAN, NAN, NAN, math.inf, "100")]
    figure = draw_depths(*rows, ("b", 1.0, NAN, 100.0, NAN, 30.0, "4, 100"))
    first, second = figure.axes
    assert first.get_ylim() == pytest.approx((2.5, 220))
    assert heights_of(first, "^") == [first.get_ylim()[1]]
    assert heights_of(first, "v") == [first.get_ylim()[0]]
    assert (heights_of(first, "_"), heights_of(second, "_")) == ([9.0], [30.0])
    assert markers_at(second, 0, axis=0) == {"x", "^"}
    assert [panel.patches[0].get_y() for panel in figure.axes] == [20, 100]


def test_one_depth_is_shown_with_its_test_error_and_range():
    row = dict.fromkeys(ERROR_COLUMNS, 0.5) | {"network": "a", "optimizer": "adam", "depth": 10, "dilution": 0.0}
    panel = plot_error_by_depth(pd.DataFrame([row | {"train_error_low": 0.4, "train_error_high": 0.6}]), 0.9).axes[0]
    assert markers_at(panel, 10, axis=0) == {"o", "D"}
    (bar,) = panel.collections
    assert bar.get_segments()[0][:, 1].tolist() == [0.4, 0.6]


def test_a_wide_interval_does_not_set_the_scale_of_rates():
    ends = pd.DataFrame({"low": [1.15, 0.3], "high": [1.25, 3.5]})
    limits = limit_rates(pd.Series([1.2, 1.02]), ends)
    assert limits == pytest.approx((0.8, 1.4), abs=0.05)
    assert some_are_cut(limits, ends)
    assert not some_are_cut(limits, ends[:1])
    rates = pd.DataFrame({"dilution": [0.0, 1.0], "explosion_rate": [1.2, 1.02], "mean_field": [1.2, 1.0], **ends})
    law = pd.DataFrame(columns=["network", "dilution", "predicted_growth"])
    panel = plot_explosion_rates(rates.assign(network="a"), law).axes[0]
    assert (markers_at(panel, 0, axis=0), markers_at(panel, 1, axis=0)) == (set(), {"^", "v"})


def test_a_level_has_one_colour_in_all_figures_of_a_study():
    some, study = pd.Series([1.0]), [0.0, 1.0, 4.0]
    assert list(level_colors(some, study)) == [1.0]
    assert level_colors(some, study)[1.0] == level_colors(pd.Series(study))[1.0]


def test_many_levels_have_a_bar_of_colours_and_leave_the_panels_their_height():
    levels = [0.1 * place for place in range(29)]
    row = dict.fromkeys(ERROR_COLUMNS, 0.5) | {"network": "a", "optimizer": "adam"}
    table = pd.DataFrame([row | {"dilution": k, "depth": depth} for k in levels for depth in (4, 10)])
    figure = plot_error_by_depth(table, 0.9)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.draw_without_rendering()
    panel, bar = figure.axes
    assert bar.get_ylabel() == "dilution level k"
    assert panel.bbox.height > 0.4 * figure.bbox.height
    assert {text.get_text() for text in figure.legends[0].get_texts()} == {"training", "test", "chance"}


def test_a_panel_without_lines_says_why():
    rows = [(name, "before training", layer, 2.0 - layer) for name in "ab" for layer in (0, 1)]
    rows += [("a", "after training", layer, 1.0 - layer) for layer in (0, 1)]
    table = pd.DataFrame(rows, columns=["network", "moment", "layer", "log10_gsc"]).assign(
        optimizer="adam", dilution=0.0
    )
    figure = plot_gsc_by_layer(table)
    assert [[text.get_text() for text in panel.texts] for panel in figure.axes] == [[], [], [], [EMPTY]]


def test_captions_name_the_networks_that_are_left_out():
    study = simulate_study(Truth(rates={("batch", "relu"): 1.2, ("layer", "tanh"): 1.1}, depths=(4, 25), seeds=2))
    short = study.trials["network"].eq("layer-tanh") & study.trials["depth"].eq(25)
    left = set(study.trials.loc[~short, "run_id"])
    tables = {
        name: getattr(study, name)[getattr(study, name)["run_id"].isin(left)].reset_index(drop=True)
        for name in ("trials", "epochs", "layers")
    }
    findings = Findings(dataclasses.replace(study, **tables))
    sections = make_tradeoff_section(findings), make_rate_section(findings)
    captions = {drawing.name: drawing.caption for section in sections for drawing in section.drawings}
    for name in ("pareto_front", "gsc_by_layer"):
        assert "at depth 25, the greatest (without layer-tanh)" in captions[name]
    assert "none has been measured after a training" in captions["gsc_by_layer"]


@pytest.mark.parametrize(("terms", "said"), [(16, False), (17, True)])
def test_the_caption_says_of_how_many_terms_the_largest_are_shown(terms, said):
    findings = Findings(simulate_study(Truth(depths=(4,), seeds=1)))
    table = pd.DataFrame({"term": [f"term {place}" for place in range(terms)], "share": 0.01, "low": NAN, "high": NAN})
    findings.importance = Importance(table.assign(note=""), trials=100, method="shares of variance")
    (drawing,) = make_importance_section(findings).drawings
    assert ("the 16 largest of 17 shares" in drawing.caption) == said


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
