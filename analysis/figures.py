"""Estimates → figures."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.figure_style import (
    CATEGORY_COLORS,
    category_colors,
    category_markers,
    label_plain_ticks,
    make_figure,
    ordered_colors,
    save_figure,
    styled,
)
from study import run_log_schema as schema

CHANCE_STYLE: dict[str, Any] = {"color": "#777777", "linewidth": 1, "linestyle": (0, (1, 1.5))}
MOMENTS = ("before training", "after training")


@styled
def plot_explosion_rates(rates: pd.DataFrame) -> Figure:
    """Measured explosion rate of each architecture with its interval, and the mean-field value beside it."""
    rates = rates.sort_values(["network", "dilution"], ascending=False, ignore_index=True)
    figure, axes = make_figure(1, 1, panel_width=5.6, panel_height=0.6 + 0.3 * len(rates))
    panel, rows = axes[0, 0], np.arange(len(rates))
    panel.plot(
        rates["mean_field"], rows, "|", color="#D55E00", markersize=13, markeredgewidth=2, label="mean-field theory"
    )
    known = rates["low"].notna()
    panel.hlines(rows[known], rates["low"][known], rates["high"][known], color="#0072B2", linewidth=2)
    panel.plot(rates["explosion_rate"], rows, "o", color="#0072B2", label="measured (95% interval over seeds)")
    panel.axvline(1, color="#777777", linewidth=1)
    labels = [f"{row.network}, k = {row.dilution:g}" for row in rates.itertuples()]
    panel.set_yticks(rows, labels)
    panel.set_ylim(-0.7, len(rates) - 0.3)
    panel.set_xlabel("explosion rate r: growth of GSC per layer")
    figure.legend(loc="outside upper center", ncols=2)
    return figure


@styled
def plot_error_by_depth(errors: pd.DataFrame, chance_error: float) -> Figure:
    """Final error against depth; one line per dilution level, one panel per network and optimizer."""
    networks, optimizers = sorted(errors["network"].unique()), sorted(errors["optimizer"].unique())
    colors = ordered_colors(errors["dilution"].unique())
    figure, axes = make_figure(len(optimizers), len(networks))
    for row, optimizer in enumerate(optimizers):
        for column, network in enumerate(networks):
            panel = axes[row, column]
            panel.set_title(f"{network}, {optimizer}")
            panel.axhline(chance_error, **CHANCE_STYLE)
            chosen = errors[(errors["network"] == network) & (errors["optimizer"] == optimizer)]
            for dilution, line in chosen.groupby("dilution"):
                color = colors[dilution]
                low, high = line["train_error_low"], line["train_error_high"]
                panel.fill_between(line["depth"], low, high, color=color, alpha=0.15, linewidth=0)
                panel.plot(line["depth"], line["train_error"], "o-", color=color)
                panel.plot(line["depth"], line["test_error"], "--", color=color, linewidth=1.1)
            panel.set_xscale("log")
            label_plain_ticks(panel, _spread(errors["depth"].unique()))
            panel.set_ylim(0, 1)
    figure.supxlabel("depth (linear layers, log scale)", fontsize=10)
    figure.supylabel("final classification error", fontsize=10)
    handles = [Line2D([], [], color=color, marker="o", label=f"k = {dilution:g}") for dilution, color in colors.items()]
    handles += [
        Line2D([], [], color="#333333", label="training"),
        Line2D([], [], color="#333333", linestyle="--", linewidth=1.1, label="test"),
        Line2D([], [], label="chance", **CHANCE_STYLE),
    ]
    figure.legend(handles=handles, loc="outside right upper")
    return figure


@styled
def plot_gsc_by_layer(profiles: pd.DataFrame) -> Figure:
    """GSC from each layer to the logits, before and after training; one line per dilution level."""
    networks = sorted(profiles["network"].unique())
    styles = dict(zip(sorted(profiles["optimizer"].unique()), ("-", "--", ":", "-."), strict=False))
    colors = ordered_colors(profiles["dilution"].unique())
    figure, axes = make_figure(len(MOMENTS), len(networks))
    for row, moment in enumerate(MOMENTS):
        for column, network in enumerate(networks):
            panel = axes[row, column]
            panel.set_title(f"{network}, {moment}")
            chosen = profiles[(profiles["network"] == network) & (profiles["moment"] == moment)]
            for (dilution, optimizer), line in chosen.groupby(["dilution", "optimizer"]):
                # Before training, optimizers have not yet made a difference: one line tells all.
                style = styles[optimizer] if moment == MOMENTS[1] else "-"
                panel.plot(line["layer"], 10 ** line["log10_gsc"], style, color=colors[dilution])
            panel.set_yscale("log")
    figure.supxlabel("layer s (0: input)", fontsize=10)
    figure.supylabel("GSC(s → logits), log scale", fontsize=10)
    handles = [Line2D([], [], color=color, label=f"k = {dilution:g}") for dilution, color in colors.items()]
    handles += [
        Line2D([], [], color="#333333", linestyle=style, label=optimizer) for optimizer, style in styles.items()
    ]
    figure.legend(handles=handles, loc="outside right upper")
    return figure


@styled
def plot_error_against_gsc(pairs: pd.DataFrame, chance_error: float) -> Figure:
    """Final training error against GSC before training; one point per trial."""
    optimizers = sorted(pairs["optimizer"].unique())
    colors, markers = category_colors(pairs["network"]), category_markers(pairs["network"])
    figure, axes = make_figure(1, len(optimizers), panel_width=4.2, panel_height=3.2)
    for column, optimizer in enumerate(optimizers):
        panel = axes[0, column]
        panel.set_title(optimizer)
        panel.axhline(chance_error, **CHANCE_STYLE)
        for network, points in pairs[pairs["optimizer"] == optimizer].groupby("network"):
            color = colors[network]
            for diverged, group in points.groupby(points["status"] == schema.STATUS_DIVERGED):
                panel.scatter(
                    10 ** group["initial_log10_gsc"],
                    group["final_train_error"],
                    marker=markers[network],
                    edgecolors=color,
                    facecolors="none" if diverged else color,
                    alpha=0.8,
                    s=34,
                )
        panel.set_xscale("log")
        panel.set_ylim(0, 1)
        panel.set_xlabel("GSC(input → logits) before training, log scale")
    axes[0, 0].set_ylabel("final training error")
    handles = [
        Line2D([], [], linestyle="", marker=markers[network], color=color, label=network)
        for network, color in colors.items()
    ]
    if (pairs["status"] == schema.STATUS_DIVERGED).any():
        handles.append(Line2D([], [], ls="", marker="o", markerfacecolor="none", color="#333333", label="diverged"))
    handles.append(Line2D([], [], label="chance", **CHANCE_STYLE))
    figure.legend(handles=handles, loc="outside right upper")
    return figure


@styled
def draw_run_figure(profile: pd.DataFrame, title: str, path: Path) -> None:
    """Draw one run's GSC by layer, a line per whole epoch, into a PNG."""
    whole = profile[profile["epoch"] == profile["epoch"].round()]
    epochs = sorted(whole["epoch"].unique())
    figure, axes = make_figure(1, 1, panel_width=4.6, panel_height=3.0)
    panel, colors = axes[0, 0], ordered_colors(epochs)
    for epoch, line in whole.groupby("epoch"):
        panel.plot(line["layer"], 10 ** line["log10_gsc"], color=colors[epoch], label=f"epoch {epoch:.0f}")
    panel.set_yscale("log")
    panel.set_title(title)
    panel.set_xlabel("layer s (0: input)")
    panel.set_ylabel("GSC(s → logits), log scale")
    handles, labels = panel.get_legend_handles_labels()
    shown = sorted({round(place) for place in np.linspace(0, len(handles) - 1, min(len(handles), 8))})
    figure.legend([handles[place] for place in shown], [labels[place] for place in shown], loc="outside right upper")
    save_figure(figure, path)


@styled
def plot_atlas(atlas: pd.DataFrame) -> Figure:
    """Measured and predicted explosion rates; one panel per normalization, a row per activation, k by colour."""
    normalizations, activations = list(dict.fromkeys(atlas["normalization"])), list(dict.fromkeys(atlas["activation"]))
    colors, widths = ordered_colors(atlas["dilution"].unique()), sorted(atlas["width"].unique())
    offsets = dict(zip(colors, np.linspace(0.3, -0.3, len(colors)), strict=True))
    figure, axes = make_figure(1, len(normalizations), panel_width=2.6, panel_height=0.5 * len(activations) + 0.8)
    for panel, normalization in zip(axes[0], normalizations, strict=True):
        panel.set_title(f"normalization: {normalization}")
        panel.axvline(0, color="#777777", linewidth=1)
        for row, activation in enumerate(activations):
            chosen = atlas[(atlas["normalization"] == normalization) & (atlas["activation"] == activation)]
            for cell in chosen.itertuples():
                place, color = len(activations) - 1 - row + offsets[cell.dilution], colors[cell.dilution]
                wide = cell.width == widths[-1]
                if wide:
                    panel.plot(cell.predicted_explosion_rate - 1, place, "|", color="#D55E00", ms=8, mew=1.6, zorder=3)
                panel.hlines(place, cell.low - 1, cell.high - 1, color=color, linewidth=1.2, alpha=0.7)
                fill = color if wide else "white"
                panel.plot(cell.explosion_rate - 1, place, "o", color=color, markerfacecolor=fill, markersize=4)
        panel.set_xscale("symlog", linthresh=0.02, linscale=0.6)
        ticks = [-0.5, -0.2, -0.05, 0, 0.05, 0.2]
        panel.set_xticks(ticks, [f"{1 + tick:g}" for tick in ticks], fontsize=8.5)
        panel.set_xticks([], minor=True)
        panel.set_xlim(-0.75, 0.4)
        panel.set_yticks(range(len(activations)), activations[::-1])
        panel.grid(axis="y", visible=False)
        for row in range(0, len(activations), 2):
            panel.axhspan(row - 0.5, row + 0.5, color="#f4f4f4", linewidth=0, zorder=0)
    figure.supxlabel("explosion rate r, growth of GSC per layer (symmetric log scale around 1)", fontsize=10)
    handles = [Line2D([], [], ls="", marker="o", color=color, label=f"k = {k:g}") for k, color in colors.items()]
    handles += [
        Line2D([], [], ls="", marker="o", color="#333333", markerfacecolor="#333333" if wide else "white", label=label)
        for width in reversed(widths)
        for wide, label in [(width == widths[-1], f"width {width}")]
    ]
    handles.append(Line2D([], [], ls="", marker="|", color="#D55E00", ms=8, mew=1.6, label="mean-field"))
    figure.legend(handles=handles, loc="outside right upper")
    return figure


@styled
def draw_measurement(measured: dict[str, Any], path: Path) -> None:
    """Draw one measurement of GSC by layer, with its spread over seeds, theory beside it, into a PNG.

    `measured` is what `python -m study gsc --format json` prints.
    """
    layers = pd.DataFrame(measured["layers"]).astype({"log10_gsc": float, "standard_deviation": float})
    figure, axes = make_figure(1, 2, panel_width=4.4, panel_height=3.2, sharey=False)
    gsc, domain = axes[0]
    spread = layers["standard_deviation"].fillna(0)
    low, high = 10 ** (layers["log10_gsc"] - spread), 10 ** (layers["log10_gsc"] + spread)
    gsc.fill_between(layers["layer"], low, high, color="#0072B2", alpha=0.2, linewidth=0)
    several = layers["standard_deviation"].notna().any()
    label = "measured, ± s.d. over seeds" if several else "measured"
    gsc.plot(layers["layer"], 10 ** layers["log10_gsc"], color="#0072B2", label=label)
    growth = measured["predicted_log10_growth"]
    if growth:
        # Theory says how GSC grows from layer to layer; the last state is where both lines meet.
        theory = layers["log10_gsc"].iloc[-1] + np.append(np.cumsum(growth[::-1])[::-1], 0)
        rate = measured["predicted_explosion_rate"]
        gsc.plot(layers["layer"][1:], 10**theory, "--", color="#D55E00", label=f"mean-field: ×{rate:.4g} per layer")
    gsc.set_yscale("log")
    gsc.set_xlabel("layer s (0: input)")
    gsc.set_ylabel("GSC(s → output), log scale")
    gsc.legend(loc="best", fontsize=8.5)
    for column, color in zip(
        ("preactivation_std", "sign_diversity", "linear_fit_error"), CATEGORY_COLORS, strict=False
    ):
        known = layers.dropna(subset=column)
        domain.plot(known["layer"], known[column].astype(float), color=color, label=column.replace("_", " "))
    domain.set_ylim(0, 1.05)
    domain.set_xlabel("layer s (0: input)")
    domain.set_ylabel("at the following nonlinearity")
    domain.legend(loc="best", fontsize=8.5)
    figure.suptitle(measured["subject"], fontsize=10)
    save_figure(figure, path)


def _spread(depths: np.ndarray) -> list[float]:
    """Keep depths that are far enough apart to be labelled on a logarithmic axis."""
    kept: list[float] = []
    for depth in sorted(depths):
        if not kept or depth / kept[-1] >= 1.6:
            kept.append(depth)
    return kept
