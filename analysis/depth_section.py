"""Findings → the section on trainable depth."""

import math

import pandas as pd

from analysis.depth_figures import plot_error_by_depth, plot_trainable_depths
from analysis.figure_style import render
from analysis.findings import Findings
from analysis.section import (
    UNKNOWN,
    Drawing,
    Section,
    Table,
    apart,
    depth_range,
    fixed,
    has_intervals,
    interval,
    make_cross_table,
    make_table,
    number,
    p_value,
    text,
    write_number,
)


def make_depth_section(findings: Findings) -> Section:
    """Say how deep each network can be trained, and which rule predicts it."""
    depths, rules = findings.depths, findings.rules
    notes = [note for note in (depths.note, rules.note) if note]
    if findings.outcomes.left_out:
        notes.insert(0, findings.outcomes.left_out)
    if depths.failure_error is not None:
        notes.insert(0, f"A training counts as failed with a final training error above {depths.failure_error:.3f}.")
    drawings, tables = [], []
    if len(findings.errors):
        drawings.append(_draw_errors(findings))
        tables.append(_tabulate_errors(findings))
    if len(depths.table):
        if depths.table[["d50", "d50_low", "d50_high"]].notna().any(axis=None):
            drawings.append(_draw_depths(findings))
        tables.append(_tabulate_depths(findings))
    if len(rules.table):
        notes += list(dict.fromkeys(rules.verdicts.values()))
        tables.append(_tabulate_rules(findings))
    return Section("depth", "How deep each network can be trained", notes, drawings, tables)


def _draw_errors(findings: Findings) -> Drawing:
    bands = "; bands are the range over seeds" if findings.frames.trials["seed"].nunique() > 1 else ", of one seed"
    caption = (
        f"Final error against depth at the best learning rate{bands}. Where a line rises above the grey one, training "
        "counts as failed, and at the dotted one (chance) nothing was learned; look at which k the rise goes away. "
        "Dashed: test error."
    )
    errors, chance, failed = findings.errors, findings.frames.chance_error, findings.depths.failure_error
    levels = findings.frames.trials["dilution"].unique()
    return Drawing("error_by_depth", caption, render(plot_error_by_depth, errors, chance, failed, levels))


def _draw_depths(findings: Findings) -> Drawing:
    table = findings.depths.table
    bounds = "; the trainings are too few for intervals"
    if has_intervals(table, "d50_low", "d50_high"):
        bounds = (
            ", with its 95% interval; a line without a dot is a bound alone. Filled arrows at the edge: the interval "
            "is open there, or ends beyond the panel"
        )
    unbounded = table[table[["d50", "d50_low", "d50_high"]].isna().all(axis=1)]
    alike = ((unbounded["failed"] == 0) | (unbounded["failed"] == unbounded["trials"])).any()
    hollow = " Hollow arrows: none, or all, of the trainings failed, but they are too few for a bound." if alike else ""
    caption = (
        f"Depth at which half of the trainings fail{bounds}.{hollow} Look whether D50 climbs with k, and whether it "
        "follows the black dashes, the rule 16/ln χ at the rate that was measured before training (white arrows at the "
        "edge: it lies beyond the panel, or sets no limit)."
    )
    return Drawing("trainable_depth", caption, render(plot_trainable_depths, table))


def _tabulate_depths(findings: Findings) -> Table:
    bounded = has_intervals(findings.depths.table, "d50_low", "d50_high")
    return make_table(
        "trainable_depth",
        "Trainable depth D50" + (", with 95% intervals" if bounded else ""),
        findings.depths.table,
        {
            "network": text("network"),
            "optimizer": text("optimizer"),
            "k": apart(findings.depths.table, "dilution"),
            "D50": lambda row: UNKNOWN if pd.isna([row.d50, row.d50_low, row.d50_high]).all() else str(row.written),
            "depths": depth_range("depths"),
            "failed": lambda row: f"{row.failed:g} of {row.trials:g}",
            "spread σ": fixed("spread", 2),
            "lapse λ": fixed("lapse", 2),
            "16/ln χ": lambda row: "∞" if math.isinf(row.rule_depth) else write_number(row.rule_depth),
            "its interval": interval("rule_depth_low", "rule_depth_high", 0),
            "log10 GSC at D50": fixed("critical_log10_gsc", 2),
            "GSC interval": interval("critical_log10_gsc_low", "critical_log10_gsc_high", 2),
            "note": text("note"),
        },
        "D50: depth at which half of the trainings fail. σ: standard deviation of ln depth at which they begin to. λ: "
        "share of them that end against the rule at any depth. 16/ln χ: depth that theory allows where GSC² grows by "
        "χ per layer, as measured before training. GSC is that of untrained networks as deep as D50. A bound (≥ or ≤) "
        "is the end of a 95% interval without an estimate. Where no depth has both failures and successes, D50 lies "
        "between two depths tried and nothing says where: then priors set the estimate, σ and the interval's width.",
    )


def _tabulate_rules(findings: Findings) -> Table:
    return make_table(
        "depth_rules",
        "Which rule predicts where training fails (lower held-out loss is better)",
        findings.rules.table,
        {
            "optimizer": text("optimizer"),
            "conditions": text("conditions"),
            "rule": text("rule"),
            "constant": number("constant"),
            "of": text("unit"),
            "95% interval": interval("constant_low", "constant_high", 2),
            "parameters": text("parameters"),
            "AIC": fixed("aic", 1),
            "p against own": p_value("p_against_own"),
            "held-out loss": fixed("held_out_log_loss", 3),
            "trials": text("trials"),
            "note": text("note"),
        },
        "AIC: 2 · parameters − 2 · ln of the penalised likelihood, on all trials; smaller is better. p against own: of "
        "the rule against a D50 of its own for each network and dilution; below 0.05 its constant has no interval. "
        "Held-out loss: minus ln of the probability that was given to what happened, in nats a trial, on networks left "
        "out of the fit (or levels of dilution, where there is one network), averaged over all curves as the others "
        "make them likely.",
    )


def _tabulate_errors(findings: Findings) -> Table:
    """Write training / test error, depth across; the CSV has a row for each, with learning rates and ranges."""
    errors = findings.errors.assign(
        written=[
            f"{row.train_error:.3f} / {row.test_error:.3f}"
            if row.test_error == row.test_error
            else f"{row.train_error:.3f}"
            for row in findings.errors.itertuples()
        ]
    )
    return make_cross_table(
        "final_errors",
        "Final errors, training / test, at the best learning rate (mean over seeds)",
        errors,
        {"network": "network", "optimizer": "optimizer", "k": "dilution"},
        "depth",
        text("written"),
    )
