"""Errors, trainable depths → figures: final error against depth, and D50 by dilution."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.estimates import parse_list
from analysis.figure_style import (
    CHANCE_STYLE,
    FAILURE_STYLE,
    THEORY_COLOR,
    add_legend,
    category_colors,
    label_axes,
    label_plain_ticks,
    make_panels,
    ordered_colors,
    scale_error,
    spread_depths,
    styled,
    title_panel,
)


@styled
def plot_error_by_depth(errors: pd.DataFrame, chance_error: float, failure_error: float | None = None) -> Figure:
    """Final error against depth; one line per dilution level, one panel per network and optimizer.

    `errors` has `fits.ERROR_COLUMNS`. The optimizers of a network are side by side.
    """
    places = list_places(errors)
    colors = ordered_colors(errors["dilution"].unique())
    figure, panels = pair_panels(places)
    for panel, (network, optimizer) in zip(panels, places, strict=True):
        title_panel(panel, f"{network}, {optimizer}")
        panel.axhline(chance_error, **CHANCE_STYLE)
        if failure_error is not None:
            panel.axhline(failure_error, **FAILURE_STYLE)
        chosen = errors[(errors["network"] == network) & (errors["optimizer"] == optimizer)]
        for dilution, line in chosen.groupby("dilution"):
            color, depths = colors[dilution], line["depth"]
            panel.fill_between(
                depths, line["train_error_low"], line["train_error_high"], color=color, alpha=0.15, linewidth=0
            )
            panel.plot(depths, line["train_error"], "o-", color=color, markersize=3.5)
            panel.plot(depths, line["test_error"], "--", color=color, linewidth=1)
        _scale_depth(panel, errors["depth"])
        scale_error(panel)
    label_axes(figure, "depth (linear layers, log scale)", "final classification error")
    handles = [Line2D([], [], color=color, marker="o", label=f"k = {dilution:g}") for dilution, color in colors.items()]
    handles += [
        Line2D([], [], color="#333333", label="training"),
        Line2D([], [], color="#333333", linestyle="--", linewidth=1, label="test"),
        Line2D([], [], label="chance", **CHANCE_STYLE),
    ]
    if failure_error is not None:
        handles.append(Line2D([], [], label="failed above", **FAILURE_STYLE))
    add_legend(figure, handles)
    return figure


@styled
def plot_trainable_depths(depths: pd.DataFrame) -> Figure:
    """D50 by dilution; one panel per network, optimizers by colour, the rule 16/ln χ beside.

    `depths` has `trainable_depth.DEPTH_COLUMNS`. An arrow is an open bound: D50 lies beyond what was tried. A hollow
    one stands where all trainings ended alike and are too few to bound it, a cross where nothing can be told.
    """
    is_known = depths[["d50", "d50_low", "d50_high"]].notna().any(axis=1)
    known, unknown = depths[is_known], depths[~is_known]
    networks, dilutions = sorted(depths["network"].unique()), sorted(depths["dilution"].unique())
    colors = category_colors(depths["optimizer"])
    shifts = spread_shifts(list(colors))
    places = {dilution: place for place, dilution in enumerate(dilutions)}
    tried = [depth for text in known["depths"] for depth in parse_list(text)]
    lowest, highest = min(tried) / 1.6, max(tried) * 2.2
    figure, panels = make_panels(len(networks))
    for panel, network in zip(panels, networks, strict=True):
        title_panel(panel, network)
        panel.axhspan(max(tried), highest, color="#f1f1f1", linewidth=0, zorder=0)
        for row in known[known["network"] == network].itertuples():
            place = places[row.dilution] + shifts[row.optimizer]
            _draw_depth(panel, place, row, colors[row.optimizer], (lowest, highest))
            if row.rule_depth < highest:
                panel.plot(place, row.rule_depth, "_", color=THEORY_COLOR, markersize=10, markeredgewidth=2, zorder=2)
        for row in unknown[unknown["network"] == network].itertuples():
            place = places[row.dilution] + shifts[row.optimizer]
            marker, _, height = _mark_unknown(row, lowest * 1.25)
            panel.plot(place, height, marker, color=colors[row.optimizer], markersize=5, markerfacecolor="none")
        panel.set_yscale("log")
        panel.set_ylim(lowest, highest)
        ticks = spread_depths(sorted(set(tried)))
        panel.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
        panel.set_yticks([], minor=True)
        panel.set_xticks(range(len(dilutions)), [f"{dilution:g}" for dilution in dilutions])
        panel.set_xlim(-0.6, len(dilutions) - 0.4)
    label_axes(figure, "dilution level k", "trainable depth D50 (log scale)")
    bounded = known[["d50_low", "d50_high"]].notna().any(axis=None)
    interval, line = (", 95% interval", "-") if bounded else (", no interval", "")
    handles = [Line2D([], [], color=c, ls=line, marker="o", label=f"{name}{interval}") for name, c in colors.items()]
    open_above, open_below = known["d50_high"].isna() & known["d50_low"].notna(), known["d50_low"].isna()
    for is_open, marker, label in (
        (open_above, "^", "at least"),
        (open_below & known["d50_high"].notna(), "v", "at most"),
    ):
        if is_open.any():
            handles.append(Line2D([], [], color="#333333", ls="", marker=marker, label=label))
    for marker, label in dict.fromkeys(_mark_unknown(row, lowest)[:2] for row in unknown.itertuples()):
        handles.append(Line2D([], [], color="#333333", ls="", marker=marker, markerfacecolor="none", label=label))
    if (known["rule_depth"] < highest).any():
        rule: dict[str, Any] = {"color": THEORY_COLOR, "ls": "", "marker": "_", "markersize": 10, "mew": 2}
        handles.append(Line2D([], [], label="16/ln χ, measured χ", **rule))
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


def _draw_depth(panel: Axes, place: float, row: Any, color: str, limits: tuple[float, float]) -> None:
    """Draw one D50: its interval, and an arrow where that is open."""
    low = limits[0] if np.isnan(row.d50_low) else row.d50_low
    high = limits[1] if np.isnan(row.d50_high) else row.d50_high
    interval = not (np.isnan(row.d50_low) and np.isnan(row.d50_high))
    if interval:
        panel.vlines(place, low, high, color=color, linewidth=1.6)
    if interval and np.isnan(row.d50_high):
        panel.plot(place, min(row.d50_low, limits[1]), "^", color=color, markersize=5)
    elif interval and np.isnan(row.d50_low):
        panel.plot(place, row.d50_high, "v", color=color, markersize=5)
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
    label_plain_ticks(panel, spread_depths(sorted(depths.unique())))
