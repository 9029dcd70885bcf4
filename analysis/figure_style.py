"""One look for every figure: sizes, type, grid, and colours that colour-blind readers can tell apart."""

import contextlib
import contextvars
import dataclasses
import functools
import io
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike
from PIL import Image

from analysis.estimates import write_apart
from analysis.figure_labels import spread_places

logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # it names every font that is not there
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
Color = str | tuple[float, float, float, float]

CATEGORY_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
"""Okabe and Ito's palette."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
THEORY_COLOR = "#111111"
CHANCE_STYLE: dict[str, Any] = {"color": "#777777", "linewidth": 1, "linestyle": (0, (1, 1.5))}
FAILURE_STYLE: dict[str, Any] = {"color": "#a0a0a0", "linewidth": 1}
DOTS_PER_INCH = 150
MOST_LEVELS_IN_LEGEND = 8
NARROW_INCHES = 4.2
_PAGE_IS_NARROW = contextvars.ContextVar("page_is_narrow", default=False)

STYLE: dict[str, Any] = {
    "font.size": 10,
    "axes.titlesize": 10,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.fontsize": 9,
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


@contextlib.contextmanager
def narrow_page() -> Iterator[None]:
    """Make figures for a phone: as wide as its page, with type that is as large as elsewhere."""
    token = _PAGE_IS_NARROW.set(True)
    try:
        yield
    finally:
        _PAGE_IS_NARROW.reset(token)


def make_panels(
    count: int, columns: int = 3, *, panel_width: float = 2.35, panel_height: float = 2.0, margin: float = 0.0
) -> tuple[Figure, list[Axes]]:
    """Return a figure and `count` axes in reading order that share scales, at most so many in a row.

    `margin` is what long names beside the panels take, in inches: the figure is wider by it.
    """
    columns = min(columns, count)
    if _PAGE_IS_NARROW.get():
        columns = min(columns, 2 if panel_width < 3 else 1)
        panel_width = min(NARROW_INCHES / columns, max(panel_width, NARROW_INCHES / 2))
        margin = min(margin, NARROW_INCHES / 2)
    rows = math.ceil(count / columns)
    width = max(panel_width * columns, 3.4) + margin
    figure = Figure(figsize=(width, panel_height * rows + 0.7), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for panel in grid.flat[count:]:
        panel.remove()
    for panel in grid.flat[max(count - columns, 0) : count]:
        panel.xaxis.set_tick_params(labelbottom=True)  # panels above a gap are the last of their column
    return figure, list(grid.flat[:count])


def add_legend(figure: Figure, handles: Sequence[Line2D]) -> None:
    """Put a legend above all panels, in rows of equal length that fit, and make the figure higher by them."""
    if not handles:
        return
    longest = max(len(str(handle.get_label())) for handle in handles)
    fitting = int(figure.get_figwidth() / (0.55 + 0.075 * longest))
    rows = math.ceil(len(handles) / min(max(fitting, 1), 6))
    figure.legend(handles=handles, loc="outside upper center", ncols=math.ceil(len(handles) / rows))
    figure.set_figheight(figure.get_figheight() + 0.2 * (rows - 1))


def make_level_handles(colors: dict[float, Color], **style: Any) -> list[Line2D]:
    """Return entries of a legend for dilution levels; none where they are so many that `add_level_bar` shows them."""
    if len(colors) > MOST_LEVELS_IN_LEGEND:
        return []
    written = write_apart(colors)
    return [Line2D([], [], color=color, label=f"k = {written[level]}", **style) for level, color in colors.items()]


def add_level_bar(figure: Figure, panels: Sequence[Axes], colors: dict[float, Color]) -> None:
    """Put a bar with the colours of dilution levels beside the panels, where they are too many for a legend."""
    if len(colors) <= MOST_LEVELS_IN_LEGEND:
        return
    levels, edges = list(colors), np.arange(len(colors) + 1)
    scale = mpl.cm.ScalarMappable(BoundaryNorm(edges, len(levels)), ListedColormap(list(colors.values())))
    bar = figure.colorbar(scale, ax=list(panels), fraction=0.04, pad=0.02, aspect=30)
    shown = spread_places(len(levels), MOST_LEVELS_IN_LEGEND)
    written = write_apart([levels[place] for place in shown])
    bar.set_ticks([place + 0.5 for place in shown], labels=list(written.values()))
    bar.set_ticks([], minor=True)
    bar.ax.tick_params(labelsize=8, length=2)
    bar.set_label("dilution level k", fontsize=9)


@dataclasses.dataclass(frozen=True)
class Rendered:
    """A figure as PNG and SVG, as PNG for a phone, and its width in inches at the size it was designed for."""

    png: bytes
    svg: bytes
    narrow_png: bytes
    width_inches: float


def render(plot: Callable[Arguments, Figure], *arguments: Arguments.args, **options: Arguments.kwargs) -> Rendered:
    """Draw what `plot` returns."""
    figure = plot(*arguments, **options)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # once is enough for both files
    png, drawing = _draw_png(figure), io.BytesIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "same figure, same file"}):
        figure.savefig(drawing, format="svg", metadata={"Date": None})
    with narrow_page():
        narrow = plot(*arguments, **options)
    fits = figure.get_figwidth() <= narrow.get_figwidth()
    return Rendered(png, drawing.getvalue(), png if fits else _draw_png(narrow), float(figure.get_figwidth()))


def _draw_png(figure: Figure) -> bytes:
    """Draw a PNG with a palette, which makes it a third as large as one with 16 million colours."""
    picture = io.BytesIO()
    figure.savefig(picture, dpi=DOTS_PER_INCH)
    with Image.open(picture) as full, io.BytesIO() as small:
        full.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(small, "PNG", optimize=True)
        return small.getvalue()


def save_figure(figure: Figure, path: Path) -> bytes:
    """Write a PNG; return its bytes for embedding."""
    figure.savefig(path, dpi=DOTS_PER_INCH)
    return path.read_bytes()


def ordered_colors(values: Sequence[float] | np.ndarray) -> dict[float, Color]:
    """Give ordered values (dilution levels) colours from dark to light that keep their order in grey, too."""
    ordered = sorted(set(values))
    positions = np.linspace(0.0, 0.82, max(len(ordered), 2))
    colormap = mpl.colormaps["viridis"]
    return {value: colormap(position) for value, position in zip(ordered, positions, strict=False)}


def level_colors(shown: pd.Series, levels: Sequence[float] | None = None) -> dict[float, Color]:
    """Give the dilution levels of a figure colours: those that they have among all `levels` of the study."""
    colors = ordered_colors(shown.unique() if levels is None else [*levels, *shown.unique()])
    return {level: colors[level] for level in sorted(shown.unique())}


def category_colors(values: Sequence[str]) -> dict[str, str]:
    """Give unordered values colours."""
    return {value: CATEGORY_COLORS[place % len(CATEGORY_COLORS)] for place, value in enumerate(sorted(set(values)))}


def category_markers(values: Sequence[str]) -> dict[str, str]:
    """Give unordered values marker shapes."""
    return {value: MARKERS[place % len(MARKERS)] for place, value in enumerate(sorted(set(values)))}


def mark_edges(panel: Axes, places: ArrayLike, ends: ArrayLike, color: Color, *, across: bool = False) -> None:
    """Put arrows at the edges of a panel where `ends`, y (or x when `across`), lie beyond them, or are missing.

    `ends` holds low and high ends [2, places]; nan is an open one.
    """
    low, high = panel.get_xlim() if across else panel.get_ylim()
    place, (lows, highs) = np.asarray(places, dtype=float), np.asarray(ends, dtype=float)
    markers = ("<", ">") if across else ("v", "^")
    for edge, is_beyond, marker in ((low, ~(lows >= low), markers[0]), (high, ~(highs <= high), markers[1])):
        at, edges = place[is_beyond], np.full(int(is_beyond.sum()), edge)
        x, y = (edges, at) if across else (at, edges)
        if len(at):
            panel.plot(x, y, marker, color=color, markersize=4.5, clip_on=False, zorder=3)


def draw_band(panel: Axes, x: pd.Series, low: pd.Series, high: pd.Series, color: Color) -> None:
    """Shade between two lines; where there is one point alone, draw a bar."""
    if len(x) > 1:
        panel.fill_between(x, low, high, color=color, alpha=0.15, linewidth=0)
    else:
        panel.vlines(x, low, high, color=color, alpha=0.5, linewidth=2.5)


def scale_error(panel: Axes) -> None:
    """Let a panel show errors from 0 to 1, and markers at both ends whole."""
    panel.set_ylim(-0.04, 1.04)
