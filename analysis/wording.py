"""Words that the sentences of a report share: names of networks, depths with their intervals, reasons."""

import math
from typing import Any

import pandas as pd

from analysis.section import write_number


def describe_depth(row: Any) -> str:
    """Write a trainable depth with its interval, its open bound, or why it has none."""
    value, low, high = (row[column] for column in ("d50", "d50_low", "d50_high"))
    at, least, most = (write_number(depth) for depth in (value, low, high))
    if math.isnan(value):
        if not math.isnan(low) and not math.isnan(high):
            return f"between depth {least} and {most} (95% interval)"
        return f"only beyond depth {least} (95% bound)" if not math.isnan(low) else f"by depth {most} (95% bound)"
    if math.isnan(low) and math.isnan(high):
        why = str(row["note"]).partition(",")[0]
        return f"at depth {at} (no interval{f': {why}' if why else ''})"
    if math.isnan(high):
        return f"at depth {at} (95%: at least {least})"
    if math.isnan(low):
        return f"at depth {at} (95%: at most {most})"
    return f"at depth {at} (95% interval {least} to {most})"


def name_network(row: Any) -> str:
    """Name a network and its optimizer."""
    return f"{row['network']} with {row['optimizer']}"


def name_kinds(rows: pd.DataFrame) -> str:
    """Name what there is a row of."""
    repeated = rows.duplicated(["architecture", "optimizer"]).any()
    return "networks, optimizers and conditions" if repeated else "networks and optimizers"


def as_clause(sentence: str) -> str:
    """Write a sentence as it stands within another one."""
    first = sentence.partition(" ")[0]
    kept = first.isupper()  # GSC is a name
    return (sentence if kept else sentence[0].lower() + sentence[1:]).rstrip(".")


def give_reason(note: str, table: pd.DataFrame) -> str:
    """Return why there is nothing: the note of the rows that have one, if they agree, else the table's own."""
    of_rows = {text for text in table.get("note", pd.Series(dtype=str)) if isinstance(text, str) and text}
    if len(of_rows) > 1:
        return as_clause(note) if note else "for reasons that differ, and stand in its table"
    return next((as_clause(text) for text in (*of_rows, note) if text), "the study holds too little for it")
