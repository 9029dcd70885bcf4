"""Rows → a table in the terminal in which nothing is cut: where there is too little room, its lines are longer."""

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

WIDEST = 10_000


def make_plain_table() -> Table:
    """Return a table without columns and rows, whose only line is the one below the headings."""
    return Table(box=box.SIMPLE_HEAD, collapse_padding=True, pad_edge=False, show_edge=False)


def print_whole(table: Table, console: Console) -> None:
    """Print a table as wide as its content asks."""
    table.width = Measurement.get(console, console.options.update(max_width=WIDEST), table).maximum
    console.print(table, soft_wrap=True)
