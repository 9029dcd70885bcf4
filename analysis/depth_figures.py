"""Errors, trainable depths → figures: final error against depth, and D50 by dilution."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.estimates import parse_list
from analysis.figure_labels import label_axes, label_categories, label_plain_ticks, spread_depths, title_panel
from analysis.figure_style import (
    CHANCE_STYLE,
    FAILURE_STYLE,
    THEORY_COLOR,
    add_legend,
    add_level_bar,
    category_colors,
    draw_band,
    level_colors,
    make_level_handles,
    make_panels,
    mark_edges,
    scale_error,
    styled,
)

LONE_STYLE: dict[str, Any] = {"marker": "D", "markersize": 3, "markerfacecolor": "none"}
"""Of a line's only point, which would not be seen."""
RULE_STYLE: dict[str, Any] = {"color": THEORY_COLOR, "marker": "_", "markersize": 10, "markeredgewidth": 2}
RULE_EDGE_STYLE: dict[str, Any] = {"color": THEORY_COLOR, "markerfacecolor": "white", "markersize": 5}


@styled
def plot_error_by_depth(
    errors: pd.DataFrame, chance_error: float, failure_error: float | None = None, levels: Sequence[float] | None = None
) -> Figure:
    """Final error against depth; one line per dilution level, one panel per network and optimizer.

    `errors` has `fits.ERROR_COLUMNS`; `levels` are those of the study, by which colours go. The optimizers of a network
    are side by side.
    """
    places, colors = list_places(errors), level_colors(errors["dilution"], levels)
    figure, panels = pair_panels(places)
    for panel, (network, optimizer) in zip(panels, places, strict=True):
        title_panel(panel, f"{network}, {optimizer}")
        panel.axhline(chance_error, **CHANCE_STYLE)
        if failure_error is not None:
            panel.axhline(failure_error, **FAILURE_STYLE)
        chosen = errors[(errors["network"] == network) & (errors["optimizer"] == optimizer)]
        for dilution, line in chosen.groupby("dilution"):
            color, depths = colors[dilution], line["depth"]
            draw_band(panel, depths, line["train_error_low"], line["train_error_high"], color)
            panel.plot(depths, line["train_error"], "o-", color=color, markersize=3.5)
            panel.plot(
                depths, line["test_error"], "--", color=color, linewidth=1, **(LONE_STYLE if len(line) == 1 else {})
            )
        _scale_depth(panel, errors["depth"])
        scale_error(panel)
    label_axes(figure, "depth (linear layers, log scale)", "final classification error")
    lone = errors.groupby(["network", "optimizer", "dilution"]).size().eq(1).any()
    handles = [
        *make_level_handles(colors, marker="o"),
        Line2D([], [], color="#333333", label="training"),
        Line2D([], [], color="#333333", linestyle="--", linewidth=1, label="test", **(LONE_STYLE if lone else {})),
        Line2D([], [], label="chance", **CHANCE_STYLE),
    ]
    if failure_error is not None:
        handles.append(Line2D([], [], label="failed above", **FAILURE_STYLE))
    add_level_bar(figure, panels, colors)
    add_legend(figure, handles)
    return figure


@styled
def plot_trainable_depths(depths: pd.DataFrame) -> Figure:
    """D50 by dilution; one panel per network, optimizers by colour, the rule 16/ln χ beside.

    `depths` has `trainable_depth.DEPTH_COLUMNS`. An arrow at the edge of a panel says that an interval is open there,
    or ends beyond it. A hollow one stands where all trainings ended alike and are too few to bound D50, a cross where
    nothing can be told.
    """
    is_known = depths[["d50", "d50_low", "d50_high"]].notna().any(axis=1)
    known, unknown = depths[is_known], depths[~is_known]
    networks, dilutions = sorted(depths["network"].unique()), sorted(depths["dilution"].unique())
    colors = category_colors(depths["optimizer"])
    shifts = spread_shifts(list(colors))
    places = {dilution: place for place, dilution in enumerate(dilutions)}
    tried = sorted({depth for text in depths["depths"] for depth in parse_list(text)})
    lowest, highest = tried[0] / 1.6, tried[-1] * 2.2
    figure, panels = make_panels(len(networks))
    for panel, network in zip(panels, networks, strict=True):
        title_panel(panel, network)
        panel.set_yscale("log")
        panel.set_ylim(lowest, highest)
        own = depths[depths["network"] == network]
        deepest = max(max(parse_list(text)) for text in own["depths"])
        panel.axhspan(deepest, highest, color="#f1f1f1", linewidth=0, zorder=0)
        for row in own.itertuples():
            _draw_rule(panel, places[row.dilution] + shifts[row.optimizer], row.rule_depth)
        for row in known[known["network"] == network].itertuples():
            _draw_depth(panel, places[row.dilution] + shifts[row.optimizer], row, colors[row.optimizer])
        for row in unknown[unknown["network"] == network].itertuples():
            place = places[row.dilution] + shifts[row.optimizer]
            marker, _, height = _mark_unknown(row, lowest * 1.25)
            panel.plot(place, height, marker, color=colors[row.optimizer], markersize=5, markerfacecolor="none")
        ticks = spread_depths(tried)
        panel.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
        panel.set_yticks([], minor=True)
        label_categories(panel.xaxis, dilutions)
        panel.set_xlim(-0.6, len(dilutions) - 0.4)
    label_axes(figure, "dilution level k", "trainable depth D50 (log scale)")
    bounds = known[["d50_low", "d50_high"]]
    bounded = bounds.notna().any(axis=1)
    interval, line = (", 95% interval", "-") if bounded.any() else (", no interval", "")
    handles = [Line2D([], [], color=c, ls=line, marker="o", label=f"{name}{interval}") for name, c in colors.items()]
    inside = bounds["d50_low"].ge(lowest) & bounds["d50_high"].le(highest)
    if (bounded & ~inside).any():
        handles.append(Line2D([], [], color="#333333", ls="", marker="^", label="open, or beyond the panel"))
    for marker, label in dict.fromkeys(_mark_unknown(row, lowest)[:2] for row in unknown.itertuples()):
        handles.append(Line2D([], [], color="#333333", ls="", marker=marker, markerfacecolor="none", label=label))
    rule = depths["rule_depth"].dropna()
    if rule.between(lowest, highest).any():
        handles.append(Line2D([], [], ls="", label="16/ln χ, measured χ", **RULE_STYLE))
    if (~rule.between(lowest, highest)).any():
        handles.append(Line2D([], [], ls="", marker="^", label="16/ln χ beyond the panel", **RULE_EDGE_STYLE))
    handles.append(Line2D([], [], color="#dddddd", linewidth=7, label="deeper than tried"))
    add_legend(figure, handles)
    return figure


def _mark_unknown(row: Any, bottom: float) -> tuple[str, str, float]:
    """Return marker, label and height of a D50 that has neither an estimate nor a bound."""
    tried = parse_list(row.depths)
    if row.failed == 0:
        return "^", "none failed, no bound", max(tried)
    if row.failed == row.trials:
        return "v", "all failed, no bound", min(tried)
    return "x", "cannot be told", bottom


def _draw_rule(panel: Axes, place: float, depth: float) -> None:
    """Draw a depth that theory allows, or at the edge where it lies; infinite ones lie above, unknown ones nowhere."""
    low, high = panel.get_ylim()
    if low <= depth <= high:
        panel.plot(place, depth, zorder=2, **RULE_STYLE)
    elif not np.isnan(depth):
        inward = (high / low) ** 0.035
        edge, marker = (high / inward, "^") if depth > high else (low * inward, "v")
        panel.plot(place, edge, marker, zorder=4, **RULE_EDGE_STYLE)


def _draw_depth(panel: Axes, place: float, row: Any, color: str) -> None:
    """Draw one D50 with its interval."""
    ends = np.array([row.d50_low, row.d50_high])
    if not np.isnan(ends).all():
        drawn = np.where(np.isnan(ends), panel.get_ylim(), ends)
        panel.vlines(place, *drawn, color=color, linewidth=1.6)
        mark_edges(panel, [place], ends[:, None], color)
    if not np.isnan(row.d50):
        panel.plot(place, row.d50, "o", color=color, markersize=4.5)


def list_places(table: pd.DataFrame) -> list[tuple[str, str]]:
    """Return the networks and optimizers of a table, network by network: one panel each."""
    pairs = table[["network", "optimizer"]].drop_duplicates().sort_values(["network", "optimizer"])
    return [(str(network), str(optimizer)) for network, optimizer in pairs.itertuples(index=False)]


def pair_panels(places: Sequence[tuple[str, str]]) -> tuple[Figure, list[Axes]]:
    """Return a figure with a panel per network and something of which there are a few kinds, whose kinds align."""
    kinds = len({kind for _, kind in places})
    if kinds == 2 and len(places) > 2:
        return make_panels(len(places), 4, panel_width=1.85, panel_height=1.8)
    return make_panels(len(places), kinds if kinds in (2, 3) else 3)


def spread_shifts(names: list[str]) -> dict[str, float]:
    """Return sideways shifts that keep what lies at the same place apart."""
    return dict(zip(names, np.linspace(-0.18, 0.18, len(names)) if len(names) > 1 else [0.0], strict=True))


def _scale_depth(panel: Axes, depths: pd.Series) -> None:
    panel.set_xscale("log")
    if depths.nunique() == 1:
        panel.set_xlim(depths.iloc[0] / 2, depths.iloc[0] * 2)
    label_plain_ticks(panel, spread_depths(sorted(depths.unique())))
