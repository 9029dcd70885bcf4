"""Findings → the section on what stops training, and what dilution trades for it."""

from analysis.figure_style import render
from analysis.findings import Findings
from analysis.section import (
    Drawing,
    Section,
    Table,
    apart,
    fixed,
    has_intervals,
    interval,
    make_cross_table,
    make_table,
    name_left_out,
    p_value,
    text,
)
from analysis.tradeoff_figures import plot_best_dilutions, plot_critical_gsc, plot_error_against_gsc, plot_pareto


def make_tradeoff_section(findings: Findings) -> Section:
    """Say what tells failing trainings from others, which dilution is best, and who is beaten by nobody."""
    tradeoff, best, front = findings.tradeoff, findings.best_dilutions, findings.front
    said = [tradeoff.depth_adds, tradeoff.shared, tradeoff.note, best.note, front.note]
    drawings, tables = [], []
    if len(findings.outcomes.table.dropna(subset=["log10_gsc", "error"])):
        drawings.append(_draw_outcomes(findings))
    pooled_bounds = any(found.low is not None or found.high is not None for found in tradeoff.critical_gsc.values())
    if len(tradeoff.critical) and (has_intervals(tradeoff.critical) or pooled_bounds):
        drawings.append(_draw_critical(findings))
    if best.table["best_dilution"].notna().any():
        drawings.append(_draw_best(findings))
    if len(front.table.dropna(subset=["log10_gsc", "error"])):
        drawings.append(_draw_front(findings))
    for rows, tabulate in (
        (tradeoff.coefficients, _tabulate_coefficients),
        (tradeoff.scores, _tabulate_scores),
        (tradeoff.critical, _tabulate_critical),
        (best.table, _tabulate_best),
        (front.table, _tabulate_front),
    ):
        if len(rows):
            tables.append(tabulate(findings))
    return Section(
        "tradeoff",
        "What stops training, and the trade-off",
        list(dict.fromkeys(line for line in said if line)),
        drawings,
        tables,
    )


def _draw_outcomes(findings: Findings) -> Drawing:
    outcomes, tradeoff = findings.outcomes, findings.tradeoff
    chosen = "that its other seeds found best" if outcomes.table["seed"].nunique() > 1 else "that is its best"
    caption = (
        f"One point per trained network, at the learning rate {chosen}. "
        "If exploding gradients are what stops training, the error rises from left to right, and at the same GSC in "
        "every panel"
    )
    if tradeoff.critical["critical_log10_gsc"].notna().any():
        bands = " and their bands" if has_intervals(tradeoff.critical) else ""
        caption += f": compare the vertical lines (half fail){bands}"
    caption += "."
    known = outcomes.table.dropna(subset=["log10_gsc", "error"])
    image = render(plot_error_against_gsc, known, tradeoff.critical, outcomes.failure_error)
    return Drawing("error_against_gsc", caption, image)


def _draw_critical(findings: Findings) -> Drawing:
    caption = (
        "GSC before training at which half of the trainings fail, per network, with its 95% interval, and of all "
        "together (grey, with an interval where they may have one in common). Arrows at the edge: the interval is open "
        "there, or ends beyond the panel. Hollow arrows stand at the greatest GSC of networks in which no training "
        "failed, and at the least of those in which all did; a row is empty where a network was not trained so. "
        "Whether there is a common critical GSC is tested for all networks at once, above; of many intervals some miss "
        "each other by chance."
    )
    tradeoff = findings.tradeoff
    return Drawing("critical_gsc", caption, render(plot_critical_gsc, tradeoff.critical, tradeoff.critical_gsc))


def _draw_best(findings: Findings) -> Drawing:
    table = findings.best_dilutions.table
    bars, ends = "", table[["low", "high"]]
    if has_intervals(table):
        bars = "; bars are 95% intervals of where the minimum lies, and a dot without one has none"
        if (ends.isna().any(axis=1) & ends.notna().any(axis=1)).any():
            bars += " (arrows: open, beyond the levels tried)"
    alike = " Crosses: all levels have the same error." if table["best_dilution"].isna().any() else ""
    caption = (
        f"Dilution with the smallest final training error at each depth, of the levels tried{bars}. Points that climb "
        "with depth: deeper networks need more dilution. Points at the greatest level that was tried at their depth "
        f"say only that more was not tried.{alike}"
    )
    return Drawing("best_dilution", caption, render(plot_best_dilutions, table))


def _draw_front(findings: Findings) -> Drawing:
    known = findings.front.table.dropna(subset=["log10_gsc", "error"])
    depth = known["depth"].max()
    table = known[known["depth"] == depth]
    surer = ", the stronger the surer" if table["membership"].notna().any() else ""
    others = sorted(set(findings.frames.trials["network"]) - set(table["network"]))
    caption = (
        f"Explosion and error at depth {depth:g}, the greatest{name_left_out(others)}. Rings: beaten by no other of "
        "the same optimizer and conditions, at this depth, in explosion, pseudo-linearity and error together"
        f"{surer}. Towards the lower left is better; a ring far up is kept for its small pseudo-linearity or explosion "
        "alone."
    )
    return Drawing("pareto_front", caption, render(plot_pareto, table, findings.frames.trials["dilution"].unique()))


def _tabulate_coefficients(findings: Findings) -> Table:
    return make_table(
        "tradeoff_coefficients",
        "logit P(fail) = α_optimizer + β₁ ln GSC + β₂ ln D + β₃ pseudo-linearity",
        findings.tradeoff.coefficients,
        {
            "term": text("term"),
            "coefficient": fixed("coefficient", 3),
            "95% interval": interval("low", "high", 3),
            "p": p_value("p_value"),
            "interval between networks": interval("low_between_networks", "high_between_networks", 3),
            "note": text("note"),
        },
    )


def _tabulate_scores(findings: Findings) -> Table:
    return make_table(
        "tradeoff_scores",
        "Scores on networks that were left out of the fit (lower is better)",
        findings.tradeoff.scores,
        {
            "model": text("model"),
            "left out": text("held_out"),
            "trials": text("trials"),
            "log loss": fixed("log_loss", 3),
            "Brier": fixed("brier", 3),
            "note": text("note"),
        },
    )


def _tabulate_critical(findings: Findings) -> Table:
    return make_table(
        "critical_gsc",
        "GSC before training at which half fail (log10)",
        findings.tradeoff.critical,
        {
            "network": text("network"),
            "optimizer": text("optimizer"),
            "failed": lambda row: f"{row.failed:g} of {row.trials:g}",
            "log10 GSC": fixed("critical_log10_gsc", 2),
            "95% interval": interval("low", "high", 2),
            "note": text("note"),
        },
    )


def _tabulate_best(findings: Findings) -> Table:
    intervals = ", with its 95% interval" if has_intervals(findings.best_dilutions.table) else ""
    return make_cross_table(
        "best_dilution",
        f"Dilution k of the smallest error{intervals} (the CSV has errors, levels and notes)",
        findings.best_dilutions.table,
        {"network": "network", "optimizer": "optimizer"},
        "depth",
        text("written"),
        "A level without an interval: one seed was trained, or no level bounds it on either side; the CSV says which.",
    )


def _tabulate_front(findings: Findings) -> Table:
    return make_table(
        "pareto_front",
        "Explosion, pseudo-linearity and error: who is beaten by nobody",
        findings.front.table,
        {
            "network": text("network"),
            "optimizer": text("optimizer"),
            "k": apart(findings.front.table, "dilution"),
            "depth": text("depth"),
            "log10 GSC": fixed("log10_gsc", 2),
            "pseudo-linearity": fixed("pseudo_linearity", 3),
            "error": fixed("error", 3),
            "on the front": lambda row: "yes" if row.on_front is True or row.on_front == 1 else "no",
            "probability": fixed("membership", 2),
            "note": text("note"),
        },
    )
