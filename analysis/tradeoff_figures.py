"""Outcomes, critical GSC, best dilutions, Pareto fronts → figures of the trade-off."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.depth_figures import list_places, pair_panels, spread_shifts
from analysis.estimates import Estimate, parse_list
from analysis.figure_labels import label_axes, label_categories, title_panel, wrap_name
from analysis.figure_style import (
    FAILURE_STYLE,
    add_legend,
    add_level_bar,
    category_colors,
    category_markers,
    level_colors,
    make_level_handles,
    make_panels,
    mark_edges,
    scale_error,
    styled,
)

CRITICAL_INCHES = 3.0
"""Width of a panel with critical GSC."""
NAME_WIDTH = 28
"""Letters in a line of a network's name beside a panel."""
OPEN_END = 0.3
"""How far an open interval goes beyond the levels tried, in steps of a level."""


@styled
def plot_error_against_gsc(outcomes: pd.DataFrame, critical: pd.DataFrame, failure_error: float | None) -> Figure:
    """Final training error against GSC before training, a point per outcome; where half fail, with its interval.

    `outcomes` has `best_learning_rates.OUTCOME_COLUMNS`, `critical` `critical_gsc.CRITICAL_COLUMNS`; a panel per
    network.
    """
    networks = sorted(outcomes["network"].unique())
    colors, markers = category_colors(outcomes["optimizer"]), category_markers(outcomes["optimizer"])
    figure, panels = make_panels(len(networks))
    left, right = _padded(outcomes["log10_gsc"])
    for panel, network in zip(panels, networks, strict=True):
        title_panel(panel, network)
        if failure_error is not None:
            panel.axhline(failure_error, **FAILURE_STYLE)
        for row in critical[critical["network"] == network].itertuples():
            low, high = np.nan_to_num(row.low, nan=left), np.nan_to_num(row.high, nan=right)
            if not np.isnan([row.low, row.high]).all():
                panel.axvspan(max(low, left), min(high, right), color=colors[row.optimizer], alpha=0.1, linewidth=0)
            if left <= row.critical_log10_gsc <= right:
                panel.axvline(row.critical_log10_gsc, color=colors[row.optimizer], linewidth=1)
        for optimizer, points in outcomes[outcomes["network"] == network].groupby("optimizer"):
            for diverged, group in points.groupby("diverged"):
                panel.scatter(
                    group["log10_gsc"],
                    group["error"],
                    marker=markers[optimizer],
                    edgecolors=colors[optimizer],
                    facecolors="none" if diverged else colors[optimizer],
                    alpha=0.6,
                    linewidths=0.8,
                    s=14,
                )
        scale_error(panel)
        panel.set_xlim(left, right)
    label_axes(figure, "log10 GSC(input → logits) before training", "final training error")
    handles = [
        Line2D([], [], linestyle="", marker=markers[optimizer], color=color, label=optimizer)
        for optimizer, color in colors.items()
    ]
    if outcomes["diverged"].any():
        handles.append(Line2D([], [], ls="", marker="o", markerfacecolor="none", color="#333333", label="diverged"))
    handles.append(Line2D([], [], label="failed above", **FAILURE_STYLE))
    if critical["critical_log10_gsc"].notna().any():
        band = " (band: 95% interval)" if critical[["low", "high"]].notna().any(axis=None) else ""
        color = next(iter(colors.values())) if len(colors) == 1 else "#333333"
        handles.append(Line2D([], [], color=color, linewidth=1, label=f"half fail{band}"))
    add_legend(figure, handles)
    return figure


@styled
def plot_critical_gsc(critical: pd.DataFrame, pooled: dict[str, Estimate]) -> Figure:
    """GSC at which half fail, per network, with its interval; a panel per training with the pooled value behind.

    `critical` has `critical_gsc.CRITICAL_COLUMNS`. An arrow at the edge of a panel says that an interval is open there,
    or ends beyond it. A hollow one stands at the greatest (least) GSC of a network in which no (every) training failed,
    a cross where nothing can be told.
    """
    # Where a panel holds one network under several conditions, these are in its name.
    name = "network" if critical.duplicated(["architecture", "training"]).any() else "architecture"
    trainings, networks = sorted(critical["training"].unique()), sorted(critical[name].unique())
    colors = category_colors(critical["optimizer"])
    rows = {network: place for place, network in enumerate(reversed(networks))}
    labels = ["\n".join(wrap_name(network, NAME_WIDTH)) for network in rows]
    lines = max(label.count("\n") + 1 for label in labels)
    letters = max(len(line) for label in labels for line in label.split("\n"))
    figure, panels = make_panels(
        len(trainings),
        2,
        panel_width=CRITICAL_INCHES,
        panel_height=0.7 + max(0.3, 0.16 * lines) * len(networks),
        margin=0.2 + 0.07 * letters,
    )
    limits = _limit_critical(critical, pooled)
    ends, value = ["low", "high"], "critical_log10_gsc"
    is_known = critical[[value, *ends]].notna().any(axis=1)
    for panel, training in zip(panels, trainings, strict=True):
        title_panel(panel, training, CRITICAL_INCHES)
        panel.set_xlim(*limits)
        _draw_pooled(panel, pooled.get(training, Estimate()))
        own = critical["training"] == training
        for row in critical[own & is_known].itertuples():
            place, color = rows[getattr(row, name)], colors[row.optimizer]
            interval = np.array([row.low, row.high])
            panel.hlines(place, *np.where(np.isnan(interval), limits, interval), color=color, linewidth=1.8)
            mark_edges(panel, [place], interval[:, None], color, across=True)
            if limits[0] <= row.critical_log10_gsc <= limits[1]:
                panel.plot(row.critical_log10_gsc, place, "o", color=color, markersize=5)
        for row in critical[own & ~is_known].itertuples():
            marker, _, at = _mark_unbounded(row, limits[0])
            place, color = rows[getattr(row, name)], colors[row.optimizer]
            panel.plot(at, place, marker, color=color, markersize=5, markerfacecolor="none")
        panel.set_yticks(list(rows.values()), labels)
        panel.set_ylim(-0.6, len(rows) - 0.4)
    figure.supxlabel("log10 GSC before training at which half fail", fontsize=9.5)
    unbounded = [_mark_unbounded(row, limits[0])[:2] for row in critical[~is_known].itertuples()]
    add_legend(
        figure,
        [
            Line2D([], [], color="#333333", ls="", marker=marker, markerfacecolor="none", label=label)
            for marker, label in dict.fromkeys(unbounded)
        ],
    )
    return figure


def _limit_critical(critical: pd.DataFrame, pooled: dict[str, Estimate]) -> tuple[float, float]:
    """Return limits that hold what is known: of ends far beyond all that was measured, only that they lie there."""
    bounded = critical.dropna(subset=["low", "high"], how="all")
    unknown = critical[critical[["critical_log10_gsc", "low", "high"]].isna().all(axis=1)]
    none_failed, all_failed = unknown["failed"] == 0, unknown["failed"] == unknown["trials"]
    shared = [number for found in pooled.values() for number in (found.value, found.low, found.high)]
    ends = pd.concat([bounded["low"], bounded["high"], pd.Series(shared, dtype=float)]).dropna()
    marks = [unknown.loc[none_failed, "greatest_log10_gsc"], unknown.loc[all_failed, "least_log10_gsc"]]
    measured = critical[["least_log10_gsc", "greatest_log10_gsc"]].astype(float)
    if measured.notna().all(axis=None):
        ends = ends.clip(measured.min(axis=None), measured.max(axis=None))
    values = critical["critical_log10_gsc"].astype(float)
    is_within = values.between(measured.min(axis=None), measured.max(axis=None))
    return _padded(pd.concat([values[is_within | values.index.isin(bounded.index)], ends, *marks]).astype(float))


def _draw_pooled(panel: Axes, shared: Estimate) -> None:
    """Draw what all networks have in common, with its interval, behind them."""
    if shared.low is not None or shared.high is not None:
        left, right = panel.get_xlim()
        low, high = (left if shared.low is None else shared.low), (right if shared.high is None else shared.high)
        panel.axvspan(low, high, color="#d9d9d9", linewidth=0, zorder=0)
    if shared.value is not None:
        panel.axvline(shared.value, color="#555555", linewidth=1.2)


def _mark_unbounded(row: Any, left: float) -> tuple[str, str, float]:
    """Return marker, label and place of a critical GSC that has neither an estimate nor a bound."""
    if row.failed == 0:
        return ">", "none failed, up to there", row.greatest_log10_gsc
    if row.failed == row.trials:
        return "<", "all failed, down to there", row.least_log10_gsc
    return "x", "cannot be told", left + 0.05


@styled
def plot_best_dilutions(best: pd.DataFrame) -> Figure:
    """Dilution of the smallest error against depth, with its interval; optimizers by colour, a panel per network.

    `best` has `best_dilution.DILUTION_COLUMNS`. An arrow is an open end: beyond the levels tried. A cross stands where
    all levels have the same error.
    """
    networks = sorted(best["network"].unique())
    levels = sorted({level for tried in best["levels"] for level in parse_list(tried)})
    places = {level: place for place, level in enumerate(levels)}
    columns = {depth: place for place, depth in enumerate(sorted(best["depth"].unique()))}
    colors, shifts = category_colors(best["optimizer"]), spread_shifts(sorted(best["optimizer"].unique()))
    figure, panels = make_panels(len(networks))
    ends = best[["low", "high"]].astype(float)
    has_bar, alike = ends.notna().any(axis=1), best["best_dilution"].isna()
    for panel, network in zip(panels, networks, strict=True):
        title_panel(panel, network)
        for row in best[best["network"] == network].itertuples():
            depth, color = columns[row.depth] + shifts[row.optimizer], colors[row.optimizer]
            if alike[row.Index]:
                panel.plot(depth, -0.45, "x", color=color, markersize=5)
                continue
            if has_bar[row.Index]:
                _draw_range(panel, depth, row, places, color)
            panel.plot(depth, places[row.best_dilution], "o", color=color, markersize=5)
        label_categories(panel.xaxis, list(columns))
        panel.set_xlim(-0.6, len(columns) - 0.4)
        label_categories(panel.yaxis, levels)
        panel.set_ylim(-0.7 if alike.any() else -0.5, len(levels) - 0.4)
    label_axes(figure, "depth (linear layers)", "best dilution level k")
    interval, line = (", 95% interval", "-") if has_bar.any() else (", no interval", "")
    handles = [Line2D([], [], color=c, ls=line, marker="o", label=f"{name}{interval}") for name, c in colors.items()]
    for marker, end, label in (("^", "high", "more may be better"), ("v", "low", "less may be better")):
        if (has_bar & ends[end].isna()).any():
            handles.append(Line2D([], [], color="#333333", ls="", marker=marker, label=label))
    if alike.any():
        handles.append(Line2D([], [], color="#333333", ls="", marker="x", label="all levels alike"))
    add_legend(figure, handles)
    return figure


def _draw_range(panel: Axes, x: float, row: Any, places: dict[float, int], color: str) -> None:
    """Draw the interval of a best dilution over the levels tried; beyond them where it is open."""
    tried = parse_list(row.levels)
    low = places[min(tried)] - OPEN_END if np.isnan(row.low) else places[row.low]
    high = places[max(tried)] + OPEN_END if np.isnan(row.high) else places[row.high]
    panel.vlines(x, low, high, color=color, linewidth=1.8, alpha=0.55)
    for bound, end, marker in ((row.low, low, "v"), (row.high, high, "^")):
        if np.isnan(bound):
            panel.plot(x, end, marker, color=color, markersize=4.5)


@styled
def plot_pareto(front: pd.DataFrame, levels: Sequence[float] | None = None) -> Figure:
    """Error against GSC before training, dilution by colour; rings, the stronger the surer, on the front.

    `front` has `pareto.PARETO_COLUMNS`; `levels` are those of the study, by which colours go. A panel per network and
    optimizer, with all that it competes with in grey.
    """
    places, colors = list_places(front), level_colors(front["dilution"], levels)
    figure, panels = pair_panels(places)
    left, right = _padded(front["log10_gsc"])
    for panel, (network, optimizer) in zip(panels, places, strict=True):
        title_panel(panel, f"{network}, {optimizer}")
        chosen = front[(front["network"] == network) & (front["optimizer"] == optimizer)].sort_values("dilution")
        rivals = front[(front["optimizer"] == optimizer) & front["conditions"].isin(chosen["conditions"])]
        panel.scatter(rivals["log10_gsc"], rivals["error"], s=8, color="#d5d5d5", linewidths=0)
        panel.plot(chosen["log10_gsc"], chosen["error"], color="#999999", linewidth=0.8)
        for row in chosen.itertuples():
            color = colors[row.dilution]
            panel.plot(row.log10_gsc, row.error, "o", color=color, markersize=5)
            member = float(row.on_front) if np.isnan(row.membership) else row.membership
            if member >= 0.05:
                panel.plot(
                    row.log10_gsc, row.error, "o", color="#D55E00", markerfacecolor="none", alpha=member, markersize=9
                )
        panel.set_xlim(left, right)
        scale_error(panel)
    label_axes(figure, "log10 GSC(input → logits) before training", "final training error")
    handles = [
        *make_level_handles(colors, ls="", marker="o"),
        Line2D([], [], ls="", marker="o", color="#D55E00", markerfacecolor="none", markersize=9, label="on the front"),
        Line2D([], [], ls="", marker="o", color="#d5d5d5", markersize=3, label="others trained alike"),
    ]
    add_level_bar(figure, panels, colors)
    add_legend(figure, handles)
    return figure


def _padded(values: pd.Series) -> tuple[float, float]:
    """Return the range of values, 5% wider on both sides."""
    low, high = float(values.min()), float(values.max())
    margin = max((high - low) * 0.06, 0.1)
    return low - margin, high + margin
