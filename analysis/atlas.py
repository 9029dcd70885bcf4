"""CSV of the GSC atlas → its figure, and its table as Markdown."""

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.figure_style import save_figure
from analysis.figures import plot_atlas

TOLERATED_SHARE, TOLERATED_ERRORS = 0.03, 3.0
"""A cell agrees with theory when χ is within this share of χ − 1, or within so many standard errors."""

NAMES, COUNTS = ("activation", "normalization"), ("width",)
NUMBERS = (
    "dilution", "explosion_rate", "low", "high", "predicted_explosion_rate", "stationary_explosion_rate", "deviation",
    "deviation_in_errors",
)  # fmt: skip
"""Columns that are read, by type."""

HEADINGS = (
    "activation", "normalization", "width", "k", "measured r", "95% interval", "theory r", "χ off by", "s.e.",
    "theory r, D → ∞",
)  # fmt: skip


def load_atlas(path: Path) -> pd.DataFrame:
    """Read the CSV that `python -m study atlas` wrote; raises ValueError when it is none."""
    try:
        atlas = pd.read_csv(path, keep_default_na=False, na_values=[""])
        atlas = atlas.astype(dict.fromkeys(NAMES, str) | dict.fromkeys(NUMBERS, float) | dict.fromkeys(COUNTS, int))
        return atlas.assign(agrees=_agrees(atlas))
    except (OSError, KeyError, ValueError) as error:
        raise ValueError(f"atlas: {path} is no atlas ({type(error).__name__}: {error}); make one first") from None


def _agrees(atlas: pd.DataFrame) -> pd.Series:
    near = atlas["deviation"].abs() <= TOLERATED_SHARE
    return near | (atlas["deviation_in_errors"].abs() <= TOLERATED_ERRORS)


def write_atlas_pages(atlas: pd.DataFrame, table: Path, figure: Path) -> None:
    """Write the table (Markdown) and the figure (PNG)."""
    save_figure(plot_atlas(atlas), figure)
    lines = [
        "# GSC atlas",
        "",
        "Made by `make gsc-atlas`; `gsc_atlas.csv` beside this page has six digits. What the columns mean, and why",
        "some cells (in bold) are off, is in [measurements.md](measurements.md).",
        "",
        f"| {' | '.join(HEADINGS)} |",
        f"|{'---|' * len(HEADINGS)}",
    ]
    lines += [_write_row(row) for row in atlas.to_dict("records")]
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _write_row(values: dict[Hashable, Any]) -> str:
    off = "" if pd.isna(values["deviation"]) else f"{values['deviation']:+.1%}"
    errors = "" if pd.isna(values["deviation_in_errors"]) else f"{values['deviation_in_errors']:+.1f}"
    if not values["agrees"]:
        # Where theory has no explosion, χ − 1 has no share to be off by.
        off, errors = (f"**{off}**", errors) if off else (off, f"**{errors}**")
    cells = [
        values["activation"],
        values["normalization"],
        f"{values['width']}",
        f"{values['dilution']:g}",
        _write(values["explosion_rate"]),
        f"{_write(values['low'])} … {_write(values['high'])}",
        _write(values["predicted_explosion_rate"]),
        off,
        errors,
        _write(values["stationary_explosion_rate"]),
    ]
    return f"| {' | '.join(cells)} |"


def _write(value: float) -> str:
    return "" if pd.isna(value) else f"{value:.4f}"
