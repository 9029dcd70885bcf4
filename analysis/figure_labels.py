"""Titles, labels and ticks of figures: whole, and no more of them than there is room for."""

import math
import re
import textwrap
from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis, YAxis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from analysis.estimates import write_apart

LINE_INCHES = 0.14
"""Height of a line of a panel's title."""
MOST_LABELS, MOST_LETTERS = 10, 33
"""Beside and below a panel."""


def title_panel(panel: Axes, title: str, inches: float | None = None) -> None:
    """Put a name above a panel (so wide), broken into lines that fit, in smaller type where a word does not.

    The figure becomes higher by what lines beyond the second take.
    """
    inches = panel.bbox.width / mpl.rcParams["figure.dpi"] if inches is None else inches
    fitting = max(int(inches * 18), 12)
    lines = wrap_name(title, fitting)
    size = 8.5 * max(min(1.0, fitting / max(map(len, lines))), 0.65)
    figure, place = panel.get_figure(root=True), panel.get_subplotspec()
    assert figure is not None
    assert place is not None
    row = [other for other in figure.axes if (at := other.get_subplotspec()) and at.rowspan == place.rowspan]
    there = max(other.get_title().count("\n") + 1 for other in row)
    added = max(len(lines), 2) - max(there, 2)
    figure.set_figheight(figure.get_figheight() + LINE_INCHES * max(added, 0))
    panel.set_title("\n".join(lines), fontsize=size)


def wrap_name(name: str, width: int) -> list[str]:
    """Break a name into lines of at most so many characters, at blanks, or where it must be after "=", "-" and "_"."""
    lines = textwrap.wrap(name, width, break_long_words=False, break_on_hyphens=False) or [" "]
    return [part for line in lines for part in _break_word(line, width)]


def _break_word(word: str, width: int) -> list[str]:
    parts = [""]
    for piece in re.findall(r"[^=_-]+[=_-]?|[=_-]", word) if len(word) > width else [word]:
        if parts[-1] and len(parts[-1] + piece) > width:
            parts.append("")
        parts[-1] += piece
    return parts


def label_axes(figure: Figure, x: str, y: str) -> None:
    """Label the axes that all panels share; y in lines that fit."""
    figure.supxlabel(x, fontsize=9.5)
    figure.supylabel("\n".join(textwrap.wrap(y, int(figure.get_figheight() * 10))), fontsize=9.5)


def label_plain_ticks(axes: Axes, values: Sequence[float]) -> None:
    """Put plain numbers at the given places of a logarithmic x axis."""
    axes.set_xticks(list(values), [f"{value:g}" for value in values])
    axes.set_xticks([], minor=True)


def label_powers(axes: Axes) -> None:
    """Label a y axis of logarithms (base 10) with powers, which may be larger than any number of a computer."""
    axes.yaxis.set_major_locator(MaxNLocator(nbins=7, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda power, _: f"$10^{{{power:g}}}$"))


def label_categories(axis: Axis, values: Sequence[float]) -> None:
    """Label values that stand at 0, 1, 2, … on an axis; not all of them where they are many."""
    letters = max(len(f"{value:.3g}") for value in values)
    shown = spread_places(len(values), MOST_LABELS if isinstance(axis, YAxis) else int(MOST_LETTERS / (letters + 1.5)))
    axis.set_ticks(shown, list(write_apart([values[place] for place in shown]).values()))


def spread_depths(depths: Sequence[float] | np.ndarray) -> list[float]:
    """Keep depths that are far enough apart to be labelled on a logarithmic axis, the deepest among them."""
    kept: list[float] = []
    for depth in sorted(depths, reverse=True):
        if not kept or kept[-1] / depth >= 1.7:
            kept.append(depth)
    return kept[::-1]


def spread_places(count: int, most: int) -> list[int]:
    """Return places among `count`, the first among them, equally far apart and at most so many."""
    return list(range(0, count, max(math.ceil(count / most), 1)))
