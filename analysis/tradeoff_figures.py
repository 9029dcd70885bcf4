"""Outcomes, critical GSC, best dilutions, Pareto fronts → figures of the trade-off."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.depth_figures import list_places, pair_panels, spread_shifts
from analysis.estimates import Estimate, parse_list
from analysis.figure_style import (
    FAILURE_STYLE,
    add_legend,
    category_colors,
    category_markers,
    label_axes,
    make_panels,
    ordered_colors,
    scale_error,
    styled,
    title_panel,
)


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
    """GSC at which half fail, per network, with its interval; a panel per training with the pooled value behind."""
    # Without any bound the data say nothing: an estimate far beyond them would set the scale of all others.
    bounded = critical.dropna(subset=["low", "high"], how="all")
    # Where a panel holds one network under several conditions, these are in its name.
    name = "network" if critical.duplicated(["architecture", "training"]).any() else "architecture"
    trainings, networks = sorted(critical["training"].unique()), sorted(critical[name].unique())
    colors = category_colors(critical["optimizer"])
    rows = {network: place for place, network in enumerate(reversed(networks))}
    figure, panels = make_panels(len(trainings), 2, panel_width=3.5, panel_height=0.7 + 0.3 * len(networks))
    bounds = [bounded[column].dropna() for column in ("critical_log10_gsc", "low", "high")]
    left, right = _padded(pd.concat(bounds))
    for panel, training in zip(panels, trainings, strict=True):
        title_panel(panel, training)
        shared = pooled.get(training, Estimate())
        if shared.bound or shared.low is not None:
            low, high = (left if shared.low is None else shared.low), (right if shared.high is None else shared.high)
            panel.axvspan(low, high, color="#d9d9d9", linewidth=0, zorder=0)
        if shared.value is not None:
            panel.axvline(shared.value, color="#555555", linewidth=1.2)
        own = critical[critical["training"] == training]
        # An estimate without any bound is shown where the others set the scale.
        shown = own[own[["low", "high"]].notna().any(axis=1) | own["critical_log10_gsc"].between(left, right)]
        for row in shown.itertuples():
            low, high = np.nan_to_num(row.low, nan=left), np.nan_to_num(row.high, nan=right)
            place, color = rows[getattr(row, name)], colors[row.optimizer]
            panel.hlines(place, low, high, color=color, linewidth=1.8)
            panel.plot(row.critical_log10_gsc, place, "o", color=color, markersize=5)
            for edge, bound, marker in ((right, row.high, ">"), (left, row.low, "<")):
                if np.isnan(bound):
                    panel.plot(edge, place, marker, color=color, markersize=5, clip_on=False)
        panel.set_yticks(list(rows.values()), list(rows))
        panel.set_ylim(-0.6, len(rows) - 0.4)
        panel.set_xlim(left, right)
    figure.supxlabel("log10 GSC before training at which half fail", fontsize=9.5)
    return figure


@styled
def plot_best_dilutions(best: pd.DataFrame) -> Figure:
    """Dilution of the smallest error against depth, with its interval; optimizers by colour, a panel per network.

    `best` has `best_dilution.DILUTION_COLUMNS`.
    """
    known = best.dropna(subset="best_dilution")
    networks = sorted(known["network"].unique())
    levels = sorted({level for tried in known["levels"] for level in parse_list(tried)})
    places = {level: place for place, level in enumerate(levels)}
    columns = {depth: place for place, depth in enumerate(sorted(known["depth"].unique()))}
    colors, shifts = category_colors(known["optimizer"]), spread_shifts(sorted(known["optimizer"].unique()))
    figure, panels = make_panels(len(networks))
    for panel, network in zip(panels, networks, strict=True):
        title_panel(panel, network)
        for optimizer, line in known[known["network"] == network].groupby("optimizer"):
            depth = line["depth"].map(columns) + shifts[optimizer]
            color = colors[optimizer]
            tried = line["levels"].map(parse_list)  # at this depth
            low, high = line["low"].fillna(tried.map(min)).map(places), line["high"].fillna(tried.map(max)).map(places)
            several = line["seeds"] > 1  # of one seed there is no interval, of more it may be open on both sides
            panel.vlines(depth[several], low[several], high[several], color=color, linewidth=1.8, alpha=0.55)
            panel.plot(depth, line["best_dilution"].map(places), "o", color=color, markersize=5)
        panel.set_xticks(range(len(columns)), [f"{depth:g}" for depth in columns])
        panel.set_xlim(-0.6, len(columns) - 0.4)
        panel.set_yticks(range(len(levels)), [f"{level:g}" for level in levels])
        panel.set_ylim(-0.4, len(levels) - 0.6)
    label_axes(figure, "depth (linear layers)", "best dilution level k")
    interval, line = (", 95% interval", "-") if (known["seeds"] > 1).any() else (", one seed", "")
    handles = [Line2D([], [], color=c, ls=line, marker="o", label=f"{name}{interval}") for name, c in colors.items()]
    add_legend(figure, handles)
    return figure


@styled
def plot_pareto(front: pd.DataFrame) -> Figure:
    """Explosion against pseudo-linearity, error by shade; rings where, or how surely, it is on the front.

    `front` has `pareto.PARETO_COLUMNS`. A panel per network and optimizer.
    """
    places, colors = list_places(front), ordered_colors(front["dilution"].unique())
    figure, panels = pair_panels(places)
    left, right = _padded(front["log10_gsc"])
    for panel, (network, optimizer) in zip(panels, places, strict=True):
        title_panel(panel, f"{network}, {optimizer}")
        panel.scatter(front["log10_gsc"], front["error"], s=8, color="#d5d5d5", linewidths=0)
        chosen = front[(front["network"] == network) & (front["optimizer"] == optimizer)].sort_values("dilution")
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
        Line2D([], [], color=color, ls="", marker="o", label=f"k = {level:g}") for level, color in colors.items()
    ]
    handles += [
        Line2D([], [], ls="", marker="o", color="#D55E00", markerfacecolor="none", markersize=9, label="on the front"),
        Line2D([], [], ls="", marker="o", color="#d5d5d5", markersize=3, label="all others"),
    ]
    add_legend(figure, handles)
    return figure


def _padded(values: pd.Series) -> tuple[float, float]:
    """Return the range of values, 5% wider on both sides."""
    low, high = float(values.min()), float(values.max())
    margin = max((high - low) * 0.06, 0.1)
    return low - margin, high + margin
