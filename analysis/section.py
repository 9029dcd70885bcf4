"""Estimates → what a script prints and a report shows: a section of text, drawings and tables, and their files.

Tables are written twice: as CSV with every column and digit, and for people as text, in which what is unknown is an
empty cell or says why, and is never nan.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.table import Table as ConsoleTable
from rich.text import Text

from analysis.estimates import parse_list, write_apart, write_list
from analysis.figure_style import Rendered

Cell = Callable[[Any], str]
"""Writes a row, given as a namedtuple of the frame's columns, as one cell."""

NOTE, NOTE_WIDTH = "note", 30
"""The column of remarks, and its least width in a terminal."""
UNKNOWN = "–"


@dataclasses.dataclass(frozen=True)
class Table:
    """A frame for its CSV, and the same for people: headings and rows of text. `name` is the file's stem.

    `numeric` says which columns hold numbers and are aligned to the right; `legend` what headings mean.
    """

    name: str
    title: str
    frame: pd.DataFrame
    headings: list[str]
    rows: list[list[str]]
    numeric: list[bool]
    legend: str = ""


@dataclasses.dataclass(frozen=True)
class Drawing:
    """A figure with a caption that says what to see. `name` is the stem of its files."""

    name: str
    caption: str
    image: Rendered


@dataclasses.dataclass(frozen=True)
class Section:
    """One subject of a report. `text` holds sentences that stand above its drawings and tables."""

    name: str
    title: str
    text: list[str]
    drawings: list[Drawing] = dataclasses.field(default_factory=list)
    tables: list[Table] = dataclasses.field(default_factory=list)


def make_table(name: str, title: str, frame: pd.DataFrame, cells: Mapping[str, Cell], legend: str = "") -> Table:
    """Write a frame for people, a column per entry of `cells`: heading → what writes a row's cell.

    Columns that are empty in every row are left out. A note that all rows have is said once, at the end of the legend.
    """
    rows = [[write(row) for write in cells.values()] for row in frame.itertuples(index=False)]
    if NOTE in cells and len(rows) > 1:
        place = list(cells).index(NOTE)
        notes = {row[place] for row in rows}
        if len(notes) == 1 and (note := notes.pop()):
            legend = f"{legend} {note[0].upper()}{note[1:]} (in every row).".strip()
            rows = [[*row[:place], "", *row[place + 1 :]] for row in rows]
    kept = [place for place in range(len(cells)) if any(row[place] not in ("", UNKNOWN) for row in rows)]
    headings, rows = [list(cells)[place] for place in kept], [[row[place] for place in kept] for row in rows]
    numeric = [heading != NOTE and _is_numeric([row[place] for row in rows]) for place, heading in enumerate(headings)]
    return Table(name, title, frame, headings, rows, numeric, legend)


def make_cross_table(
    name: str,
    title: str,
    frame: pd.DataFrame,
    columns: Mapping[str, str],
    across: str,
    write: Cell,
    legend: str = "",
) -> Table:
    """Write a frame for people with the values of one column across, and a row for each content of `columns`.

    `columns` is heading → column of names or numbers; numbers that differ are written so that they can be told apart.
    """
    first, values = [_told_apart(frame[column]) for column in columns.values()], _told_apart(frame[across])
    rows: dict[tuple[Any, ...], dict[Any, str]] = {}
    for row in frame.itertuples(index=False):
        key = tuple(getattr(row, column) for column in columns.values())
        rows.setdefault(key, {})[getattr(row, across)] = write(row)
    texts = [
        [
            *(written[part] for written, part in zip(first, key, strict=True)),
            *(others.get(value, "") for value in values),
        ]
        for key, others in rows.items()
    ]
    headings = [*columns, *(f"{across} {written}" for written in values.values())]
    numeric = [_is_numeric([row[place] for row in texts]) for place in range(len(headings))]
    return Table(name, title, frame, headings, texts, numeric, legend)


def _told_apart(column: pd.Series) -> dict[Any, str]:
    """Return value → text, in ascending order."""
    if pd.api.types.is_numeric_dtype(column):
        return write_apart(column)
    return {value: str(value) for value in sorted(set(column))}


def apart(frame: pd.DataFrame, column: str) -> Cell:
    """Return what writes a column of numbers so that those that differ can be told apart."""
    written = write_apart(frame[column].dropna())
    return lambda row: written.get(getattr(row, column), UNKNOWN)


def text(column: str) -> Cell:
    """Return what writes a column of names."""
    return lambda row: "" if _is_missing(getattr(row, column)) else str(getattr(row, column))


def number(column: str, digits: int = 3) -> Cell:
    """Return what writes a column of numbers with so many significant digits."""
    return lambda row: write_number(getattr(row, column), digits)


def fixed(column: str, decimals: int = 3) -> Cell:
    """Return what writes a column of numbers with so many decimals."""
    return lambda row: _fix(getattr(row, column), decimals)


def interval(low: str, high: str, decimals: int = 3) -> Cell:
    """Return what writes two columns as a 95% interval; an open side is a bound."""

    def write(row: Any) -> str:
        lower, upper = (_fix(getattr(row, column), decimals) for column in (low, high))
        if lower == upper == UNKNOWN:
            return UNKNOWN
        if UNKNOWN in (lower, upper):
            return f"≥ {lower}" if upper == UNKNOWN else f"≤ {upper}"
        return f"{lower} to {upper}"

    return write


def depth_range(column: str) -> Cell:
    """Return what writes a column of depths, "4, 8, 16, 25", briefly: "4 … 25 (4)"."""

    def write(row: Any) -> str:
        depths = parse_list(getattr(row, column))
        return write_list(depths) if len(depths) <= 3 else f"{depths[0]:g} … {depths[-1]:g} ({len(depths)})"

    return write


def p_value(column: str) -> Cell:
    """Return what writes a column of p values."""

    def write(row: Any) -> str:
        value = getattr(row, column)
        if _is_missing(value):
            return UNKNOWN
        return "< 0.0001" if value < 0.0001 else f"{value:.2g}"

    return write


def has_intervals(frame: pd.DataFrame, low: str = "low", high: str = "high") -> bool:
    """Whether any row has an interval, or an end of one: with one seed there is often none to speak of."""
    return bool(frame[[low, high]].notna().any(axis=None))


def say_by_subject(sentences: Mapping[str, str]) -> list[str]:
    """Return subject → sentence as lines, subjects of which the same is said together."""
    subjects: dict[str, list[str]] = {}
    for subject, sentence in sentences.items():
        subjects.setdefault(sentence, []).append(subject)
    return [f"{', '.join(named)}: {sentence}" for sentence, named in subjects.items()]


def name_left_out(networks: Sequence[str]) -> str:
    """Return what a caption says of networks that have no data where others have: " (without batch-relu)"."""
    if not networks:
        return ""
    return f" (without {', '.join(networks)})" if len(networks) < 4 else f" (without {len(networks)} networks)"


def write_number(value: float | None, digits: int = 3) -> str:
    """Write a number with so many significant digits and no exponent where people need none; a dash for none."""
    if value is None or _is_missing(value) or math.isinf(value):
        return UNKNOWN
    if value != 0 and not 1e-4 <= abs(value) < 1e6:
        return f"{value:.{digits - 1}e}"
    decimals = 0 if value == 0 else max(digits - 1 - math.floor(math.log10(abs(value))), 0)
    written = f"{value:.{decimals}f}"
    return written.rstrip("0").rstrip(".") if "." in written else written


def _fix(value: float | None, decimals: int) -> str:
    if value is None or _is_missing(value) or math.isinf(value):
        return UNKNOWN
    return f"{round(value, decimals) + 0.0:.{decimals}f}"  # which makes -0.00 a plain 0.00


def _is_missing(value: Any) -> bool:
    return value is None or bool(pd.isna(value))


def write_section_files(section: Section, folder: Path) -> list[Path]:
    """Write CSV, PNG and SVG of a section into a folder, made when missing; return them.

    Raises ValueError when the folder cannot be written.
    """
    contents = {f"{table.name}.csv": table.frame.to_csv(index=False).encode() for table in section.tables}
    for drawing in section.drawings:
        contents |= {f"{drawing.name}.png": drawing.image.png, f"{drawing.name}.svg": drawing.image.svg}
    return write_files(folder, contents)


def write_files(folder: Path, contents: Mapping[str, bytes]) -> list[Path]:
    """Write files into a folder, made when missing; raises ValueError when it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            (folder / name).write_bytes(content)
    except OSError as error:
        raise ValueError(f"output: cannot write to {folder} ({error.strerror}); choose another with --output") from None
    return [folder / name for name in contents]


def make_console_table(table: Table, width: int, rows: int | None = None) -> ConsoleTable:
    """Return a table for a terminal so wide, its first rows only if asked; markup in it is text like any other.

    Where the terminal is too narrow the table is wider, because no number may be cut; notes are broken into lines.
    """
    widths = [max(map(len, column)) for column in zip(table.headings, *table.rows[:rows], strict=True)]
    needed = 1 + sum(
        3 + (min(NOTE_WIDTH, size) if heading == NOTE else size)
        for heading, size in zip(table.headings, widths, strict=True)
    )
    shown = ConsoleTable(
        title=Text(table.title),
        title_justify="left",
        caption=Text(table.legend) if table.legend else None,
        caption_justify="left",
        width=needed if needed > width else None,
    )
    for place, heading in enumerate(table.headings):
        shown.add_column(Text(heading), justify="right" if table.numeric[place] else "left", no_wrap=heading != NOTE)
    for row in table.rows[:rows]:
        shown.add_row(*(Text(cell) for cell in row))
    return shown


def _is_numeric(cells: Sequence[str]) -> bool:
    """Whether a column of text holds numbers (or intervals of them), so that it reads best aligned to the right."""
    known = [cell for cell in cells if cell not in ("", UNKNOWN)]
    return bool(known) and all((first := cell.lstrip("≥≤<−- ")[:1]).isdigit() or first == "∞" for cell in known)
