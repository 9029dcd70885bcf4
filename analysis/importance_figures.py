"""Shares of variance → a figure of bars with intervals."""

import pandas as pd
from matplotlib.figure import Figure

from analysis.figure_style import CATEGORY_COLORS, make_panels, styled

SHOWN = 16


@styled
def plot_importance(shares: pd.DataFrame, method: str) -> Figure:
    """Share of each term with its interval, the largest on top; at most SHOWN terms. Has `importance.SHARE_COLUMNS`."""
    shown = shares.dropna(subset="share").sort_values("share", ascending=False)[:SHOWN][::-1]
    figure, (panel,) = make_panels(1, 1, panel_width=6.6, panel_height=0.6 + 0.27 * len(shown))
    rows = range(len(shown))
    panel.barh(list(rows), shown["share"], color=CATEGORY_COLORS[5], height=0.62)
    panel.hlines(list(rows), shown["low"], shown["high"], color="#222222", linewidth=1.5)
    panel.set_yticks(list(rows), [str(term) for term in shown["term"]])
    panel.set_xlim(left=min(0.0, float(shown["low"].min(skipna=True) if shown["low"].notna().any() else 0.0)))
    panel.grid(axis="y", visible=False)
    panel.set_xlabel(f"importance, {method}", fontsize=9.5)
    return figure
