"""Findings → the section on what the final error depends on."""

from analysis.figure_style import render
from analysis.findings import Findings
from analysis.importance_figures import SHOWN, plot_importance
from analysis.section import Drawing, Section, fixed, has_intervals, interval, make_table, text


def make_importance_section(findings: Findings) -> Section:
    """Say which parameters, alone and in pairs, the final training error depends on."""
    importance = findings.importance
    drawings, tables = [], []
    if importance.table["share"].notna().any():
        intervals = "; lines are 95% intervals" if has_intervals(importance.table) else ""
        terms = int(importance.table["share"].notna().sum())
        most = f"; the {SHOWN} largest of {terms} shares" if terms > SHOWN else ""
        caption = (
            f"What the final training error of {importance.trials} trials depends on, by {importance.method}{intervals}"
            f"{most}. A long bar for a pair (a × b) says that the effect of one depends on the other."
        )
        drawings.append(Drawing("importance", caption, render(plot_importance, importance.table, importance.method)))
    if len(importance.table):
        columns = {
            "term": text("term"),
            "share": fixed("share", 4),
            "95% interval": interval("low", "high", 4),
            "note": text("note"),
        }
        tables.append(make_table("importance", f"Importance, {importance.method}", importance.table, columns))
    return Section(
        "importance", "What the error depends on", [importance.note] if importance.note else [], drawings, tables
    )
