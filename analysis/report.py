"""Tidy frames → reports/NAME: index.html (self-contained), figures as PNG, tables as CSV."""

import base64
import dataclasses
import math
import struct
from pathlib import Path

import jinja2
import pandas as pd

from analysis import figures, fits
from analysis.explosion_rates import estimate_explosion_rates
from analysis.figure_style import DOTS_PER_INCH, save_figure
from analysis.tidy_frames import UNFINISHED, StudyFrames, write_value
from study import run_log_schema as schema

CSS_PIXELS_PER_INCH = 96


@dataclasses.dataclass(frozen=True)
class Section:
    """One figure with its caption, and the table below it (headings and rows of text)."""

    title: str
    caption: str
    image: "Image | None" = None
    headings: list[str] = dataclasses.field(default_factory=list)
    rows: list[list[str]] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class Image:
    """A PNG for embedding, and the width in CSS pixels at which its type has the size of the page's."""

    base64: str
    width: int


@dataclasses.dataclass(frozen=True)
class Report:
    """What was written: the page, and its first words as Markdown."""

    page: Path
    summary: str


def write_report(frames: StudyFrames, folder: Path, command: str) -> Report:
    """Write the report of a study into a folder, made when missing.

    Raises ValueError when the folder cannot be written or no trial was measured.
    """
    if frames.epochs.empty:
        raise ValueError(
            f"study: no trial of {frames.name!r} measured anything before it failed; see tag error in MLflow"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        page = _write_files(frames, folder, command)
    except OSError as error:
        raise ValueError(f"output: cannot write to {folder} ({error.strerror}); choose another with --output") from None
    sentences = make_sentences(frames, fits.tabulate_final_errors(frames), estimate_explosion_rates(frames).table)
    return Report(page, "\n\n".join([describe_study(frames), *sentences]))


def _write_files(frames: StudyFrames, folder: Path, command: str) -> Path:
    rates, errors = estimate_explosion_rates(frames).table, fits.tabulate_final_errors(frames)
    profiles, pairs = fits.average_profiles(frames), fits.pair_error_with_gsc(frames)
    tables = {
        "trials": frames.trials,
        "explosion_rates": rates,
        "final_errors": errors,
        "gsc_by_layer": profiles,
        "error_against_gsc": pairs,
    }
    for name, table in tables.items():
        table.to_csv(folder / f"{name}.csv", index=False)
    sections = [
        _error_section(errors, frames.chance_error, folder),
        _profile_section(profiles, folder),
        _rate_section(rates, folder),
        _pair_section(pairs, frames.chance_error, folder),
    ]
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    template = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined).get_template(
        "report.html.j2"
    )
    page = folder / "index.html"
    page.write_text(
        template.render(
            name=frames.name,
            facts=describe_study(frames),
            synthetic=frames.is_synthetic,
            sentences=make_sentences(frames, errors, rates),
            sections=sections,
            method=_method(frames, command),
        ),
        encoding="utf-8",
    )
    return page


def describe_study(frames: StudyFrames) -> str:
    """Say in one line how many trials there are, how they ended, and on which data."""
    counts = frames.trials["status"].value_counts()
    order = (schema.STATUS_OK, schema.STATUS_DIVERGED, schema.STATUS_FAILED, UNFINISHED)
    endings = ", ".join(f"{counts.get(status, 0)} {status}" for status in order)
    return f"{len(frames.trials)} trials ({endings}) on {frames.data}, checksum {frames.data_checksum}."


def describe_setting(frames: StudyFrames) -> list[str]:
    """Say which parameters were varied, which were the same in all trials, and what the numbers were made with."""
    varied, same = [], []
    for name in schema.PARAM_TYPES:
        values = sorted(frames.trials[name].unique(), key=lambda value: (isinstance(value, str), value))
        if len(values) > 1:
            shown = [write_value(value) for value in values]
            shown = shown if len(shown) <= 12 else [*shown[:5], "…", shown[-1]]
            varied.append(f"{name} ({', '.join(shown)})")
        else:
            same.append(f"{name} {write_value(values[0])}")
    made_with = [f"{name.removeprefix('version.')} {value}" for name, value in frames.environment.items()]
    return [
        f"Varied: {', '.join(varied) or 'nothing'}.",
        f"The same in all trials: {', '.join(same) or 'nothing'} (sizes of 0 mean all images).",
        f"Made with: {', '.join(made_with)}.",
    ]


def make_sentences(frames: StudyFrames, errors: pd.DataFrame, rates: pd.DataFrame) -> list[str]:
    """Say what was found: where depth hurt most and what dilution did about it, and how fast GSC explodes."""
    return [*_say_what_dilution_does(errors), *_say_what_explodes(rates)]


def _say_what_dilution_does(errors: pd.DataFrame) -> list[str]:
    cells = errors.pivot_table(index=["network", "optimizer", "depth"], columns="dilution", values="train_error")
    if 0.0 not in cells.columns or len(cells.columns) < 2:
        return []
    gain = (cells[0.0] - cells.drop(columns=0.0).min(axis=1)).dropna()
    if gain.empty:
        return []
    if gain.max() <= 0:
        return ["No skip path lowers the final training error of any network here below that without one."]
    network, optimizer, depth = place = gain.idxmax()
    others = cells.loc[place].drop(0.0).dropna()
    return [
        f"Dilution helps most for {network} with {optimizer} at depth {depth}: the final training error is "
        f"{cells.loc[place, 0.0]:.2f} without skip path and {others.min():.2f} with k = {others.idxmin():g}."
    ]


def _say_what_explodes(rates: pd.DataFrame) -> list[str]:
    vanilla = rates[rates["dilution"] == 0].sort_values("explosion_rate")
    if vanilla.empty:
        return []
    fastest = vanilla.iloc[-1]
    known = not math.isnan(fastest["low"])
    interval = f" (95% interval {fastest['low']:.3f} to {fastest['high']:.3f})" if known else ""
    theory = "" if math.isnan(fastest["mean_field"]) else f"; mean-field theory says {fastest['mean_field']:.3f}"
    growth = f"by a factor of {fastest['explosion_rate']:.3f}{interval} per layer{theory}."
    if fastest["explosion_rate"] <= 1 or (known and fastest["low"] <= 1):
        return [
            "Before training, no gradient is seen to explode without skip path: GSC grows fastest in "
            f"{fastest['network']}, {growth}"
        ]
    return [f"Before training, the gradient explodes fastest in {fastest['network']}: its GSC grows {growth}"]


def _error_section(errors: pd.DataFrame, chance_error: float, folder: Path) -> Section:
    title = "Final error against depth"
    if errors.empty:
        return Section(title, "No trial has come to its end with a finite error.")
    depths = sorted(errors["depth"].unique())
    cells = errors.pivot_table(
        index=["network", "optimizer", "dilution"], columns="depth", values=["train_error", "test_error"]
    )
    rows = [
        [network, optimizer, f"{dilution:g}"]
        + [_cell(cells.loc[(network, optimizer, dilution)], depth) for depth in depths]
        for network, optimizer, dilution in cells.index
    ]
    return Section(
        title,
        "Solid: training error, with its range over seeds; dashed: test error; dotted: chance. Each point is the "
        "learning rate with the lowest training error. A line that rises towards chance shows a depth that cannot be "
        "trained; a larger k is more dilution. The table gives training / test error.",
        _embed(save_figure(figures.plot_error_by_depth(errors, chance_error), folder / "error_by_depth.png")),
        ["network", "optimizer", "k", *(f"depth {depth}" for depth in depths)],
        rows,
    )


def _cell(row: pd.Series, depth: int) -> str:
    train, test = row.get(("train_error", depth), math.nan), row.get(("test_error", depth), math.nan)
    return "" if math.isnan(train) else f"{train:.3f} / {test:.3f}"


def _profile_section(profiles: pd.DataFrame, folder: Path) -> Section:
    if profiles.empty:
        return Section("GSC by layer", "No GSC was measured.")
    title = f"GSC by layer, depth {profiles['depth'].max()}"
    return Section(
        title,
        "GSC from each layer to the logits, in the deepest networks of the study. A straight line is an exponential "
        "explosion; its slope is the logarithm of the explosion rate. Before training, optimizers do not differ.",
        _embed(save_figure(figures.plot_gsc_by_layer(profiles), folder / "gsc_by_layer.png")),
    )


def _rate_section(rates: pd.DataFrame, folder: Path) -> Section:
    if rates.empty:
        return Section("Explosion rate before training", "Every network is shallower than 3 layers: there is no rate.")
    rows = []
    for row in rates.itertuples():
        interval = "" if math.isnan(row.low) else f"{row.low:.4f} – {row.high:.4f}"
        numbers = [f"{row.explosion_rate:.4f}", interval, "" if math.isnan(row.mean_field) else f"{row.mean_field:.4f}"]
        rows.append([row.network, f"{row.dilution:g}", row.depths, str(row.seeds), *numbers])
    return Section(
        "Explosion rate before training",
        "Growth of GSC per layer at initialization, on the probe images, beside the mean-field value for infinite "
        "width and Gaussian inputs. 1 means no explosion. With one seed there is no interval.",
        _embed(save_figure(figures.plot_explosion_rates(rates), folder / "explosion_rates.png")),
        ["network", "k", "depths", "seeds", "measured", "95% interval", "mean-field"],
        rows,
    )


def _pair_section(pairs: pd.DataFrame, chance_error: float, folder: Path) -> Section:
    title = "Error against GSC at initialization"
    if pairs.empty:
        return Section(title, "No trial has both a final error and a GSC before training.")
    return Section(
        title,
        "One point per trial. If exploding gradients are what stops training, the error rises with the GSC that a "
        "network starts with, whatever its architecture.",
        _embed(save_figure(figures.plot_error_against_gsc(pairs, chance_error), folder / "error_against_gsc.png")),
    )


def _method(frames: StudyFrames, command: str) -> list[str]:
    lost = len(frames.incomplete)
    unmeasured = (frames.trials["status"] == schema.STATUS_OK) & frames.trials["final_train_error"].isna()
    notes = []
    if lost:
        names = ", ".join(frames.incomplete[:3]) + (" and others" if lost > 3 else "")
        notes.append(f"The tables of {lost} trials are lost ({names}); what metrics hold stands for them.")
    if unmeasured.any():
        notes.append(f"{unmeasured.sum()} trials ended without a finite error and enter no estimate of errors.")
    return [
        "GSC is the gradient scale coefficient, unsquared: the relative change of the logits per unit relative random "
        "change of a layer's state (Philipp, Song and Carbonell, arXiv:1712.05577).",
        f"A diverged trial counts as chance ({frames.chance_error:g}); failed and unfinished trials are counted above "
        "and enter no estimate.",
        "Explosion rates are estimated per seed, then averaged with a t interval over seeds.",
        "Errors are of whole splits (or the subsets in use), in evaluation mode, after the last epoch.",
        *notes,
        *describe_setting(frames),
        f"Made by: {command}",
    ]


def _embed(png: bytes) -> Image:
    (pixels,) = struct.unpack(">I", png[16:20])  # the width in a PNG's header
    return Image(base64.b64encode(png).decode(), round(pixels * CSS_PIXELS_PER_INCH / DOTS_PER_INCH * 1.2))
