"""One run, one measurement, an atlas → figures of their own, outside of reports."""

import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.figure_labels import label_powers
from analysis.figure_style import CATEGORY_COLORS, make_figure, mark_edges, ordered_colors, save_figure, styled


@styled
def draw_run_figure(profile: pd.DataFrame, title: str, path: Path) -> None:
    """Draw one run's GSC by layer, a line per whole epoch, into a PNG."""
    whole = profile[profile["epoch"] == profile["epoch"].round()]
    epochs = sorted(whole["epoch"].unique())
    figure, axes = make_figure(1, 1, panel_width=4.6, panel_height=3.0)
    panel, colors = axes[0, 0], ordered_colors(epochs)
    for epoch, line in whole.groupby("epoch"):
        lone = "o" if len(line) == 1 else ""
        panel.plot(line["layer"], line["log10_gsc"], color=colors[epoch], marker=lone, label=f"epoch {epoch:.0f}")
    label_powers(panel)
    panel.set_title("\n".join(textwrap.wrap(title, 56)), fontsize=9)
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
    rates = atlas[["explosion_rate", "predicted_explosion_rate"]] - 1
    limits = min(-0.75, rates.min(axis=None) * 1.05), max(0.4, rates.max(axis=None) * 1.3)
    offsets = dict(zip(colors, np.linspace(0.3, -0.3, len(colors)), strict=True))
    figure, axes = make_figure(1, len(normalizations), panel_width=2.6, panel_height=0.5 * len(activations) + 0.8)
    for panel, normalization in zip(axes[0], normalizations, strict=True):
        panel.set_title(f"normalization: {normalization}")
        panel.set_xscale("symlog", linthresh=0.02, linscale=0.6)
        panel.set_xlim(*limits)
        panel.axvline(0, color="#777777", linewidth=1)
        for row, activation in enumerate(activations):
            chosen = atlas[(atlas["normalization"] == normalization) & (atlas["activation"] == activation)]
            for cell in chosen.itertuples():
                place, color = len(activations) - 1 - row + offsets[cell.dilution], colors[cell.dilution]
                wide = cell.width == widths[-1]
                if wide:
                    panel.plot(cell.predicted_explosion_rate - 1, place, "|", color="#D55E00", ms=8, mew=1.6, zorder=3)
                panel.hlines(place, cell.low - 1, cell.high - 1, color=color, linewidth=1.2, alpha=0.7)
                if not pd.isna(cell.low):
                    mark_edges(panel, [place], [[cell.low - 1], [cell.high - 1]], color, across=True)
                fill = color if wide else "white"
                panel.plot(cell.explosion_rate - 1, place, "o", color=color, markerfacecolor=fill, markersize=4)
        ticks = [tick for tick in (-0.5, -0.2, -0.05, 0, 0.05, 0.2, 1, 5, 25) if tick < limits[1]]
        panel.set_xticks(ticks, [f"{1 + tick:g}" for tick in ticks], fontsize=8.5)
        panel.set_xticks([], minor=True)
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
    # What lies inside branches is no part of the stream, and no line leads through it.
    is_inside = ~layers["on_path"] & layers["layer"].between(1, len(layers) - 2) & layers["on_path"].any()
    stream, inside = layers[~is_inside], layers[is_inside]
    spread = stream["standard_deviation"].fillna(0)
    center = stream["log10_gsc"]
    gsc.fill_between(stream["layer"], center - spread, center + spread, color="#0072B2", alpha=0.2, linewidth=0)
    several = layers["standard_deviation"].notna().any()
    label = "measured, ± s.d. over seeds" if several else "measured"
    gsc.plot(stream["layer"], center, color="#0072B2", label=label)
    if len(inside):
        gsc.plot(inside["layer"], inside["log10_gsc"], ".", color="#888888", label="inside branches")
    growth = measured["predicted_log10_growth"]
    if growth:
        # Theory says how GSC grows from layer to layer; the last state is where both lines meet.
        theory = layers["log10_gsc"].iloc[-1] + np.append(np.cumsum(growth[::-1])[::-1], 0)
        rate = measured["predicted_explosion_rate"]
        gsc.plot(layers["layer"][1:], theory, "--", color="#D55E00", label=f"mean-field: ×{rate:.4g} per layer")
    label_powers(gsc)
    gsc.set_xlabel("layer s (0: input)")
    gsc.set_ylabel("GSC(s → output), log scale")
    gsc.legend(loc="best", fontsize=8.5)
    for column, color in zip(
        ("preactivation_std", "sign_diversity", "linear_fit_error"), CATEGORY_COLORS, strict=False
    ):
        known = layers.dropna(subset=column)
        lone = "o" if len(known) == 1 else ""
        domain.plot(
            known["layer"], known[column].astype(float), color=color, marker=lone, label=column.replace("_", " ")
        )
    domain.set_ylim(0, 1.05)
    domain.set_xlabel("layer s (0: input)")
    domain.set_ylabel("at the following nonlinearity")
    domain.legend(loc="best", fontsize=8.5)
    figure.suptitle(measured["subject"], fontsize=10)
    save_figure(figure, path)
