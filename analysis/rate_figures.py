"""Explosion rates, profiles of GSC → figures: rates beside theory, rates over epochs, GSC by layer."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from analysis.depth_figures import list_places, pair_panels
from analysis.figure_style import (
    CATEGORY_COLORS,
    THEORY_COLOR,
    add_legend,
    label_axes,
    make_panels,
    ordered_colors,
    styled,
    title_panel,
)
from analysis.tidy_frames import ARCHITECTURE

MOMENTS = ("before training", "after training")
MEASURED_COLOR, LAW_COLOR = CATEGORY_COLORS[0], CATEGORY_COLORS[1]
LINE_STYLES = ("-", "--", ":", "-.")


@styled
def plot_explosion_rates(rates: pd.DataFrame, law: pd.DataFrame) -> Figure:
    """Explosion rate before training by dilution, with its interval; mean-field theory and the dilution law beside.

    `rates` has `explosion_rates.RATE_COLUMNS`, of epoch 0; `law` has `dilution_law.LAW_COLUMNS`. A panel per network.
    """
    networks, dilutions = sorted(rates["network"].unique()), sorted(rates["dilution"].unique())
    places = {dilution: place for place, dilution in enumerate(dilutions)}
    figure, panels = make_panels(len(networks))
    for panel, network in zip(panels, networks, strict=True):
        title_panel(panel, network)
        panel.axhline(1, color="#777777", linewidth=1)
        chosen = rates[rates["network"] == network]
        lawful = law[(law["network"] == network) & (law["predicted_growth"] > 0)].sort_values("dilution")
        if len(lawful) > 1:
            panel.plot(
                lawful["dilution"].map(places), np.sqrt(lawful["predicted_growth"]), "--", color=LAW_COLOR, linewidth=1
            )
        place = chosen["dilution"].map(places)
        panel.vlines(place, chosen["low"], chosen["high"], color=MEASURED_COLOR, linewidth=1.8)
        panel.plot(place, chosen["explosion_rate"], "o", color=MEASURED_COLOR, markersize=4.5)
        panel.plot(place, chosen["mean_field"], "_", color=THEORY_COLOR, markersize=11, markeredgewidth=1.6, zorder=3)
        panel.set_xticks(range(len(dilutions)), [f"{dilution:g}" for dilution in dilutions])
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


@styled
def plot_rates_over_epochs(rates: pd.DataFrame) -> Figure:
    """Explosion rate against epoch, with its interval; one line per dilution, a panel per network and optimizer."""
    trained, untrained = rates[rates["optimizer"] != ""], rates[rates["optimizer"] == ""]
    begun = untrained.drop(columns="optimizer").merge(
        trained[["network", "optimizer", *ARCHITECTURE]].drop_duplicates(), on=ARCHITECTURE, suffixes=("_untrained", "")
    )
    # Its name before training says less: what only matters in training is not in it.
    own = [set(row.network_untrained.split()) <= set(row.network.split()) for row in begun.itertuples()]
    begun = begun[own]
    rates = pd.concat([begun, trained], ignore_index=True)
    places, colors = list_places(trained), ordered_colors(rates["dilution"].unique())
    figure, panels = pair_panels(places)
    for panel, (network, optimizer) in zip(panels, places, strict=True):
        title_panel(panel, f"{network}, {optimizer}")
        panel.axhline(1, color="#777777", linewidth=1)
        chosen = rates[(rates["network"] == network) & (rates["optimizer"] == optimizer)]
        for dilution, line in chosen.sort_values("epoch").groupby("dilution"):
            color = colors[dilution]
            panel.fill_between(line["epoch"], line["low"], line["high"], color=color, alpha=0.15, linewidth=0)
            panel.plot(line["epoch"], line["explosion_rate"], "o-", color=color, markersize=3)
        panel.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    label_axes(figure, "epoch (0: before training)", "explosion rate r")
    _limit(panels, rates)
    handles = [Line2D([], [], color=color, marker="o", label=f"k = {dilution:g}") for dilution, color in colors.items()]
    add_legend(figure, handles)
    return figure


def _limit(panels: list, rates: pd.DataFrame) -> None:
    """Keep a scale on which rates differ visibly, when the interval of a few seeds is very wide."""
    low, high = rates["explosion_rate"].min(), rates["explosion_rate"].max()
    margin = max(high - low, 0.02) * 0.25
    for panel in panels:
        panel.set_ylim(min(low, 1) - margin, max(high, 1) + margin)


@styled
def plot_gsc_by_layer(profiles: pd.DataFrame) -> Figure:
    """GSC from each layer to the logits, before and after training; one line per dilution level and optimizer.

    `profiles` is what `fits.average_profiles` returns. Each network has a panel before training and one after.
    """
    networks = sorted(profiles["network"].unique())
    moments = [moment for moment in MOMENTS if moment in set(profiles["moment"])]
    styles = dict(zip(sorted(profiles["optimizer"].unique()), LINE_STYLES, strict=False))
    colors = ordered_colors(profiles["dilution"].unique())
    places = [(network, moment) for network in networks for moment in moments]
    figure, panels = pair_panels(places)
    for panel, (network, moment) in zip(panels, places, strict=True):
        title_panel(panel, f"{network}, {moment}")
        chosen = profiles[(profiles["network"] == network) & (profiles["moment"] == moment)]
        for (dilution, optimizer), line in chosen.groupby(["dilution", "optimizer"]):
            # Before training, optimizers have not yet made a difference: one line tells all.
            style = styles.get(optimizer, "-") if moment == MOMENTS[1] else "-"
            panel.plot(line["layer"], line["log10_gsc"], style, color=colors[dilution], linewidth=1.4)
    label_axes(figure, "layer s (0: input)", "log10 GSC(s → logits)")
    handles = [Line2D([], [], color=color, label=f"k = {dilution:g}") for dilution, color in colors.items()]
    if len(styles) > 1 and MOMENTS[1] in moments:
        handles += [
            Line2D([], [], color="#333333", linestyle=style, linewidth=1.4, label=optimizer)
            for optimizer, style in styles.items()
        ]
    add_legend(figure, handles)
    return figure
