"""One look for every figure: sizes, type, grid, and colours that colour-blind readers can tell apart."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

CATEGORY_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
"""Okabe and Ito's palette."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DOTS_PER_INCH = 150

STYLE: dict[str, Any] = {
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e3e3e3",
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
    "savefig.dpi": DOTS_PER_INCH,
}


def styled(draw: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Make a function draw in this style, and leave matplotlib's settings as they were."""

    @functools.wraps(draw)
    def draw_styled(*arguments: Arguments.args, **options: Arguments.kwargs) -> Result:
        with mpl.rc_context(STYLE):
            return draw(*arguments, **options)

    return draw_styled


def make_figure(
    rows: int, columns: int, *, panel_width: float = 3.3, panel_height: float = 2.7, sharey: bool = True
) -> tuple[Figure, np.ndarray]:
    """Return a figure and its axes [rows, columns], sharing scales, in inches per panel plus room for a legend."""
    figure = Figure(figsize=(panel_width * columns + 1.4, panel_height * rows + 0.4), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, sharex=True, sharey=sharey, squeeze=False)


def save_figure(figure: Figure, path: Path) -> bytes:
    """Write a PNG; return its bytes for embedding."""
    figure.savefig(path, dpi=DOTS_PER_INCH)
    return path.read_bytes()


def ordered_colors(values: Sequence[float]) -> dict[float, tuple]:
    """Give ordered values (dilution levels) colours from dark to light that keep their order in grey, too."""
    ordered = sorted(set(values))
    positions = np.linspace(0.0, 0.82, max(len(ordered), 2))
    colormap = mpl.colormaps["viridis"]
    return {value: colormap(position) for value, position in zip(ordered, positions, strict=False)}


def category_colors(values: Sequence[str]) -> dict[str, str]:
    """Give unordered values colours."""
    return {value: CATEGORY_COLORS[place % len(CATEGORY_COLORS)] for place, value in enumerate(sorted(set(values)))}


def category_markers(values: Sequence[str]) -> dict[str, str]:
    """Give unordered values marker shapes."""
    return {value: MARKERS[place % len(MARKERS)] for place, value in enumerate(sorted(set(values)))}


def label_plain_ticks(axes: Axes, values: Sequence[float]) -> None:
    """Put plain numbers at the given places of a logarithmic x axis."""
    axes.set_xticks(list(values), [f"{value:g}" for value in values])
    axes.set_xticks([], minor=True)
