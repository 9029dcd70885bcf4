"""Explosion rates, profiles of GSC → figures: rates beside theory, rates over epochs, GSC by layer."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from analysis.depth_figures import list_places, pair_panels
from analysis.figure_labels import label_axes, label_categories, title_panel
from analysis.figure_style import (
    CATEGORY_COLORS,
    THEORY_COLOR,
    Color,
    add_legend,
    add_level_bar,
    draw_band,
    level_colors,
    make_level_handles,
    make_panels,
    mark_edges,
    styled,
)
from analysis.tidy_frames import ARCHITECTURE

MOMENTS = ("before training", "after training")
MEASURED_COLOR, LAW_COLOR = CATEGORY_COLORS[0], CATEGORY_COLORS[1]
LINE_STYLES = ("-", "--", ":", "-.")
EMPTY = "all diverged,\nor did not end"


@styled
def plot_explosion_rates(rates: pd.DataFrame, law: pd.DataFrame) -> Figure:
    """Explosion rate before training by dilution, with its interval; mean-field theory and the dilution law beside.

    `rates` has `explosion_rates.RATE_COLUMNS`, of epoch 0; `law` has `dilution_law.LAW_COLUMNS`. A panel per network.
    """
    networks, dilutions = sorted(rates["network"].unique()), sorted(rates["dilution"].unique())
    places = {dilution: place for place, dilution in enumerate(dilutions)}
    figure, panels = make_panels(len(networks))
    limits = limit_untrained_rates(rates, law)
    for panel, network in zip(panels, networks, strict=True):
        title_panel(panel, network)
        panel.set_ylim(*limits)
        panel.axhline(1, color="#777777", linewidth=1)
        chosen = rates[rates["network"] == network]
        lawful = law[(law["network"] == network) & (law["predicted_growth"] > 0)].sort_values("dilution")
        if len(lawful) > 1:
            panel.plot(
                lawful["dilution"].map(places), np.sqrt(lawful["predicted_growth"]), "--", color=LAW_COLOR, linewidth=1
            )
        place = chosen["dilution"].map(places)
        panel.vlines(place, chosen["low"], chosen["high"], color=MEASURED_COLOR, linewidth=1.8)
        _mark_cut(panel, place, chosen, MEASURED_COLOR)
        panel.plot(place, chosen["explosion_rate"], "o", color=MEASURED_COLOR, markersize=4.5)
        panel.plot(place, chosen["mean_field"], "_", color=THEORY_COLOR, markersize=11, markeredgewidth=1.6, zorder=3)
        label_categories(panel.xaxis, dilutions)
        panel.set_xlim(-0.6, len(dilutions) - 0.4)
    label_axes(figure, "dilution level k", "explosion rate r, growth of GSC per layer")
    bounded = rates["low"].notna().any()
    interval, line = (", 95% interval over seeds", "-") if bounded else ("", "")
    handles = [
        Line2D([], [], color=MEASURED_COLOR, ls=line, marker="o", label=f"measured{interval}"),
        Line2D([], [], color=THEORY_COLOR, ls="", marker="_", markersize=11, mew=1.6, label="mean-field theory"),
    ]
    if len(law):
        handles.append(Line2D([], [], color=LAW_COLOR, ls="--", linewidth=1, label="dilution law, late layers"))
    add_legend(figure, handles)
    return figure


def _mark_cut(panel: Axes, places: pd.Series, rates: pd.DataFrame, color: Color) -> None:
    """Put arrows where intervals end beyond a panel."""
    bounded = rates["low"].notna() & rates["high"].notna()
    mark_edges(panel, places[bounded], rates.loc[bounded, ["low", "high"]].T, color)


def limit_untrained_rates(rates: pd.DataFrame, law: pd.DataFrame) -> tuple[float, float]:
    """Return the limits of the figure of rates before training, which hold what theory and the law say, too."""
    lawful = law.loc[law["predicted_growth"] > 0, "predicted_growth"].astype(float)
    known = pd.concat([rates["explosion_rate"], rates["mean_field"], np.sqrt(lawful)]).astype(float)
    return limit_rates(known, rates[["low", "high"]])


@styled
def plot_rates_over_epochs(rates: pd.DataFrame, levels: Sequence[float] | None = None) -> Figure:
    """Explosion rate against epoch, with its interval; one line per dilution, a panel per network and optimizer.

    `levels` are those of the study, by which colours go.
    """
    trained, untrained = rates[rates["optimizer"] != ""], rates[rates["optimizer"] == ""]
    begun = untrained.drop(columns="optimizer").merge(
        trained[["network", "optimizer", *ARCHITECTURE]].drop_duplicates(), on=ARCHITECTURE, suffixes=("_untrained", "")
    )
    # Its name before training says less: what only matters in training is not in it.
    own = [set(row.network_untrained.split()) <= set(row.network.split()) for row in begun.itertuples()]
    begun = begun[own]
    rates = pd.concat([begun, trained], ignore_index=True)
    places, colors = list_places(trained), level_colors(rates["dilution"], levels)
    limits = limit_rates(rates["explosion_rate"], rates[["low", "high"]])
    figure, panels = pair_panels(places)
    for panel, (network, optimizer) in zip(panels, places, strict=True):
        title_panel(panel, f"{network}, {optimizer}")
        panel.set_ylim(*limits)
        panel.axhline(1, color="#777777", linewidth=1)
        chosen = rates[(rates["network"] == network) & (rates["optimizer"] == optimizer)]
        for dilution, line in chosen.sort_values("epoch").groupby("dilution"):
            color = colors[dilution]
            draw_band(panel, line["epoch"], line["low"], line["high"], color)
            _mark_cut(panel, line["epoch"], line, color)
            panel.plot(line["epoch"], line["explosion_rate"], "o-", color=color, markersize=3)
        panel.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    label_axes(figure, "epoch (0: before training)", "explosion rate r")
    add_level_bar(figure, panels, colors)
    add_legend(figure, make_level_handles(colors, marker="o"))
    return figure


def limit_rates(estimates: pd.Series, ends: pd.DataFrame) -> tuple[float, float]:
    """Return limits that hold 1 and all estimates, which differ visibly, and what fits of their intervals' `ends`.

    Intervals widen the scale by at most the range of the estimates on either side: that of a few seeds may be so wide
    that nothing else could be told apart.
    """
    least, most = min(float(estimates.min()), 1.0), max(float(estimates.max()), 1.0)
    room = max(most - least, 0.02)
    low = least if ends.isna().all(axis=None) else min(least, max(float(ends.min(axis=None)), least - room))
    high = most if ends.isna().all(axis=None) else max(most, min(float(ends.max(axis=None)), most + room))
    return low - 0.06 * (high - low + 0.02), high + 0.06 * (high - low + 0.02)


def some_are_cut(limits: tuple[float, float], ends: pd.DataFrame) -> bool:
    """Whether any interval ends beyond the limits."""
    return bool(((ends < limits[0]) | (ends > limits[1])).any(axis=None))


@styled
def plot_gsc_by_layer(profiles: pd.DataFrame, levels: Sequence[float] | None = None) -> Figure:
    """GSC from each layer to the logits, before and after training; one line per dilution level and optimizer.

    `profiles` is what `fits.average_profiles` returns; `levels` are those of the study, by which colours go. Each
    network has a panel before training and one after, which says so where it is empty.
    """
    networks = sorted(profiles["network"].unique())
    moments = [moment for moment in MOMENTS if moment in set(profiles["moment"])]
    styles = dict(zip(sorted(profiles["optimizer"].unique()), LINE_STYLES, strict=False))
    colors = level_colors(profiles["dilution"], levels)
    places = [(network, moment) for network in networks for moment in moments]
    figure, panels = pair_panels(places)
    for panel, (network, moment) in zip(panels, places, strict=True):
        title_panel(panel, f"{network}, {moment}")
        chosen = profiles[(profiles["network"] == network) & (profiles["moment"] == moment)]
        for (dilution, optimizer), line in chosen.groupby(["dilution", "optimizer"]):
            # Before training, optimizers have not yet made a difference: one line tells all.
            style = styles.get(optimizer, "-") if moment == MOMENTS[1] else "-"
            lone = "o" if len(line) == 1 else ""
            panel.plot(line["layer"], line["log10_gsc"], style, color=colors[dilution], linewidth=1.4, marker=lone)
        if chosen.empty:
            panel.text(0.5, 0.5, EMPTY, ha="center", va="center", transform=panel.transAxes, color="#555555")
    label_axes(figure, "layer s (0: input)", "log10 GSC(s → logits)")
    handles = make_level_handles(colors)
    if len(styles) > 1 and MOMENTS[1] in moments:
        handles += [
            Line2D([], [], color="#333333", linestyle=style, linewidth=1.4, label=optimizer)
            for optimizer, style in styles.items()
        ]
    add_level_bar(figure, panels, colors)
    add_legend(figure, handles)
    return figure
