"""Findings → the section on explosion rates."""

import dataclasses

import pandas as pd

from analysis.figure_style import render
from analysis.findings import Findings
from analysis.rate_figures import (
    limit_rates,
    limit_untrained_rates,
    plot_explosion_rates,
    plot_gsc_by_layer,
    plot_rates_over_epochs,
    some_are_cut,
)
from analysis.section import (
    Drawing,
    Section,
    Table,
    apart,
    depth_range,
    fixed,
    has_intervals,
    interval,
    make_table,
    name_left_out,
    number,
    p_value,
    say_by_subject,
    text,
)
from analysis.tidy_frames import StudyFrames

CUT = " Arrows at the edge: intervals that end beyond the panel."


def make_rate_section(findings: Findings) -> Section:
    """Say how fast GSC grows per layer: before training, beside theory; over training; in which form; by dilution."""
    rates, trained = findings.rates.table, findings.rates_over_epochs.table
    forms, law = findings.forms, findings.law
    notes = [note for note in (findings.rates.note, forms.note, law.note) if note]
    levels = findings.frames.trials["dilution"].unique().tolist()
    drawings, tables = [], []
    if len(rates):
        notes += _compare_with_theory(rates)
        drawings.append(_draw_rates(rates, law.table))
        tables.append(_tabulate_rates(rates))
    if len(findings.profiles):
        drawings.append(_draw_profiles(findings.profiles, findings.frames))
    if trained["epoch"].nunique() > 1 and (trained["optimizer"] != "").any():
        drawings.append(_draw_training(trained, levels))
        tables.append(_tabulate_training(trained))
    if len(law.table):
        tables.append(_tabulate_law(law.table))
        notes += say_by_subject(law.verdicts)
    if len(forms.table):
        tables.append(_tabulate_forms(forms.table))
    return Section("rates", "How fast gradients explode", notes, drawings, tables)


def _compare_with_theory(rates: pd.DataFrame) -> list[str]:
    """Say how far measured rates lie from those of mean-field theory, and how often beyond chance."""
    known = rates.dropna(subset=["explosion_rate", "mean_field"])
    if known.empty:
        return []
    farthest = (known["explosion_rate"] / known["mean_field"] - 1).abs().max()
    text = f"Before training, rates differ from mean-field theory (of infinite width) by at most {farthest:.1%}"
    if known["low"].notna().any():
        below, above = (known["mean_field"] < known["low"]).sum(), (known["mean_field"] > known["high"]).sum()
        text += f"; of {known['low'].notna().sum()} intervals, {below} lie above theory and {above} below"
    return [f"{text}."]


def _draw_rates(rates: pd.DataFrame, law: pd.DataFrame) -> Drawing:
    near = "bars cover" if has_intervals(rates) else "they lie on"
    caption = (
        "Growth of GSC per layer before training; above 1 gradients explode. Look whether dots fall towards 1 as k "
        f"grows, and whether {near} the black dashes (mean-field theory: infinite width, Gaussian inputs)."
    )
    if some_are_cut(limit_untrained_rates(rates, law), rates[["low", "high"]]):
        caption += CUT
    if len(law):
        caption += " The dashed line continues the rate of the late layers at the smallest k by the dilution law."
    return Drawing("explosion_rates", caption, render(plot_explosion_rates, rates, law))


def _draw_profiles(profiles: pd.DataFrame, frames: StudyFrames) -> Drawing:
    others = sorted(set(frames.trials["network"]) - set(profiles["network"]))
    when = "before training; none has been measured after a training that did not diverge"
    if "after training" in set(profiles["moment"]):
        when = "before training, and after it at the best learning rate where that did not diverge"
    caption = (
        f"GSC from each layer to the logits, at depth {profiles['depth'].max():g}, the greatest"
        f"{name_left_out(others)}, {when}. "
        "A straight line is an exponential explosion, and its slope the logarithm of the rate; a flat one is no "
        "explosion. After training, a flatter line says that training itself took the explosion back; below 0 what "
        "changes in a layer fades on its way to the logits, as in a collapsed network."
    )
    levels = frames.trials["dilution"].unique().tolist()
    return Drawing("gsc_by_layer", caption, render(plot_gsc_by_layer, profiles, levels))


def _draw_training(trained: pd.DataFrame, levels: list[float]) -> Drawing:
    intervals = ", with its 95% interval" if has_intervals(trained) else ""
    caption = (
        f"Explosion rate over training{intervals}. Lines that fall: training itself reduces the explosion; "
        "lines that stay high: it does not."
    )
    if some_are_cut(limit_rates(trained["explosion_rate"], trained[["low", "high"]]), trained[["low", "high"]]):
        caption += CUT
    return Drawing("explosion_rates_by_epoch", caption, render(plot_rates_over_epochs, trained, levels))


def _tabulate_rates(rates: pd.DataFrame) -> Table:
    return make_table(
        "explosion_rates",
        "Explosion rate before training",
        rates,
        {
            "network": text("network"),
            "k": apart(rates, "dilution"),
            "depths": depth_range("depths"),
            "seeds": text("seeds"),
            "rate r": fixed("explosion_rate", 4),
            "95% interval": interval("low", "high", 4),
            "mean-field": fixed("mean_field", 4),
            "off by s.e.": fixed("errors_from_mean_field", 1),
            "note": text("note"),
        },
        "r: factor by which GSC grows per layer. Mean-field: r of infinitely wide networks. Off by s.e.: how many "
        "standard errors over seeds the measured ln r lies above it. With two seeds, chance alone "
        "makes one value of 16 larger than 10: look whether the interval holds the theory.",
    )


def _tabulate_training(trained: pd.DataFrame) -> Table:
    last = trained[trained["epoch"] > 0]
    last = last[last["epoch"] == last.groupby(["network", "optimizer", "dilution"])["epoch"].transform("max")]
    shown = make_table(
        "explosion_rates_by_epoch",
        "Explosion rate after the last epoch (the CSV has all epochs)",
        last,
        {
            "network": text("network"),
            "optimizer": text("optimizer"),
            "k": apart(last, "dilution"),
            "epoch": number("epoch"),
            "seeds": text("seeds"),
            "rate r": fixed("explosion_rate", 4),
            "95% interval": interval("low", "high", 4),
        },
    )
    return dataclasses.replace(shown, frame=trained)


def _tabulate_law(law: pd.DataFrame) -> Table:
    return make_table(
        "dilution_law",
        "Dilution law: r_k² − 1 = (r_0² − 1)/(k² + 1), in the late layers",
        law,
        {
            "network": text("network"),
            "k": apart(law, "dilution"),
            "seeds": text("seeds"),
            "r_k²": fixed("growth", 4),
            "95% interval": interval("growth_low", "growth_high", 4),
            "by the law": fixed("predicted_growth", 4),
            "excess": fixed("excess", 4),
            "its interval": interval("excess_low", "excess_high", 4),
            "p": p_value("p_value"),
            "note": text("note"),
        },
        "Excess: by how much (r_k² − 1)(k² + 1) lies above that of the smallest k, 0 by the law. Where its interval is "
        "wide, hardly anything could contradict the law.",
    )


def _tabulate_forms(forms: pd.DataFrame) -> Table:
    return make_table(
        "growth_forms",
        "Form of the growth over layers: error in decades on seeds left out",
        forms,
        {
            "network": text("network"),
            "k": apart(forms, "dilution"),
            "depth": text("depth"),
            "seeds": text("seeds"),
            "best": text("best"),
            "exponential": fixed("exponential_error", 4),
            "power": fixed("power_error", 4),
            "stretched": fixed("stretched_error", 4),
            "gain over exponential": fixed("gain_over_exponential", 4),
            "95% interval": interval("gain_low", "gain_high", 4),
            "exponent": fixed("stretched_exponent", 2),
            "note": text("note"),
        },
        "Exponential is called best unless another form's gain over it has an interval above 0, even where that form's "
        "error is smaller; growth is not shown where the 95% interval of its slope holds 0. Exponent: c of b·m^c, the "
        "stretched form, m layers from the last one.",
    )
