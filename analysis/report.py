"""Tidy frames → reports/NAME: index.html (self-contained) or index.md, figures as PNG and SVG, tables as CSV."""

import base64
import dataclasses
import html
import importlib.metadata
import platform
import re
from collections.abc import Sequence
from pathlib import Path

import jinja2

from analysis.depth_section import make_depth_section
from analysis.findings import Findings
from analysis.how_deep import say_how_deep
from analysis.importance_section import make_importance_section
from analysis.rate_section import make_rate_section
from analysis.section import write_files, write_section_files
from analysis.tidy_frames import STATUSES, UNFINISHED, StudyFrames, write_value
from analysis.tradeoff_section import make_tradeoff_section
from analysis.what_fixes import say_what_fixes
from analysis.what_stops import say_what_stops
from study import run_log_schema as schema

SECTIONS = (make_depth_section, make_tradeoff_section, make_rate_section, make_importance_section)
LIST = ".written-by-report"
"""Names of the files of a report, beside them: what the next one may remove."""
LIBRARIES = ("numpy", "scipy", "pandas", "optuna", "matplotlib", "mlflow")
"""What the analysis computes with; those of the trials are recorded with each run."""


@dataclasses.dataclass(frozen=True)
class Report:
    """What was written: the page, its first words, a sentence a line, and all files, the page among them."""

    page: Path
    lines: list[str]
    files: list[Path]

    @property
    def summary(self) -> str:
        """The first words as Markdown."""
        return "\n\n".join(escape_markdown(line) for line in self.lines)


def write_report(findings: Findings, folder: Path, command: str, page_format: str = "html") -> Report:
    """Write the report of a study into a folder, made when missing, instead of the report that was there.

    Raises ValueError when the folder cannot be written.
    """
    frames, sentences = findings.frames, make_sentences(findings)
    sections = [make(findings) for make in SECTIONS]
    content = {
        "name": frames.name,
        "facts": describe_study(frames),
        "synthetic": frames.is_synthetic,
        "sentences": sentences,
        "sections": sections,
        "method": describe_method(findings, command),
    }
    page = f"index.{page_format}"
    tables = {"trials.csv": frames.trials, "epochs.csv": frames.epochs, "gsc_by_layer.csv": findings.profiles}
    contents = {name: table.to_csv(index=False).encode() for name, table in tables.items()}
    contents[page] = _render(page_format, content).encode()
    files = [path for section in sections for path in write_section_files(section, folder)]
    files += write_files(folder, contents)
    _replace_list(folder, files)
    return Report(folder / page, [describe_study(frames), *sentences], files)


def _replace_list(folder: Path, files: Sequence[Path]) -> None:
    """Note what was written, and remove what an earlier report wrote and this one did not; all else there stays."""
    names = {path.name for path in files}
    earlier = (folder / LIST).read_text("utf-8", "replace").splitlines() if (folder / LIST).is_file() else []
    for name in set(earlier) - names:
        if Path(name).name == name and (folder / name).is_file():
            (folder / name).unlink()
    write_files(folder, {LIST: "".join(f"{name}\n" for name in sorted(names)).encode()})


def make_sentences(findings: Findings) -> list[str]:
    """Return the answer: how deep can each network be trained, what stops it, what fixes it."""
    return [
        *_warn_of_missing(findings.frames),
        say_how_deep(findings.depths, _describe_epochs(findings.frames)),
        say_what_stops(findings.tradeoff),
        say_what_fixes(findings.best_dilutions, findings.depths),
    ]


def _warn_of_missing(frames: StudyFrames) -> list[str]:
    """Say that what follows is of a part of the study, and to which side that leans; nothing where it is all there."""
    whole, ended = max(frames.planned, len(frames.trials)), int((frames.trials["status"] != UNFINISHED).sum())
    if ended >= whole:
        return []
    return [
        f"Interim: {ended} of {whole} planned trials have ended and are here. Trainings that diverge end first, and "
        "deep networks are trained first, so that failures may be too frequent in what follows."
    ]


def _describe_epochs(frames: StudyFrames) -> str:
    epochs = sorted(epochs for epochs in frames.trials["epochs"].dropna().unique() if epochs > 0)
    if not epochs or epochs[-1] == 1:
        return " after 1 epoch" if epochs else ""
    return f" after {epochs[0]:g} to {epochs[-1]:g} epochs" if len(epochs) > 1 else f" after {epochs[0]:g} epochs"


def _render(page_format: str, content: dict[str, object]) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=page_format == "html",
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["plain"] = escape_markdown
    template = environment.get_template(f"report.{page_format}.j2")
    page = template.render(content, encode=lambda png: base64.b64encode(png).decode())
    return re.sub(r"\n{3,}", "\n\n", page)


def escape_markdown(text: str) -> str:
    """Return text that Markdown shows as it is, on one line."""
    escaped = re.sub(r"([\\`*_\[\]|~#])", r"\\\1", " ".join(text.split()))
    return html.escape(escaped, quote=False)


def describe_study(frames: StudyFrames) -> str:
    """Say in one line how many trials there are, how they ended, on which data, and whether MLflow lacks some."""
    counts = frames.trials["status"].value_counts()
    endings = ", ".join(f"{counts.get(status, 0)} {status}" for status in STATUSES)
    here = len(frames.trials)
    trials = "1 trial" if here == 1 else f"{here} trials"
    lacking = f" {frames.planned} planned, {here} of them here." if frames.planned > here else ""
    return f"{trials} ({endings}) on {frames.data}, checksum {frames.data_checksum}.{lacking}"


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
        f"Trials made with: {', '.join(made_with) or 'unknown'}.",
    ]


def describe_method(findings: Findings, command: str) -> list[str]:
    """Say what was counted, what was left out, and with what the report was made."""
    frames = findings.frames
    return [
        f"Trials: {describe_study(frames)} A diverged trial counts as chance ({frames.chance_error:g}); failed and "
        "unfinished ones are counted here and enter no estimate.",
        *_describe_exclusions(findings),
        "GSC is the gradient scale coefficient, unsquared: the relative change of the logits per unit relative random "
        "change of a layer's state (Philipp, Song and Carbonell, arXiv:1712.05577). Its logarithms are to base 10.",
        "Explosion rates are estimated per seed, then averaged with a t interval over seeds. χ = r².",
        "For D50 and the trade-off, each seed is judged at the learning rate that its other seeds found best, by "
        "training error; figures and tables of final errors show the rate with the lowest mean of all seeds.",
        "D50 is a probit in ln depth with a lapse rate; its interval is of the penalised profile likelihood, averaged "
        "over bootstrap choices of the learning rate; an open side is a bound.",
        "All intervals are 95% intervals, one by one, not all of them together.",
        "Errors are of whole splits (or the subsets in use), in evaluation mode, after the last epoch.",
        *describe_setting(frames),
        "Written with this page: trials.csv (a row for every trial), epochs.csv (for every epoch of each) and "
        "gsc_by_layer.csv (what the figure of GSC by layer shows).",
        f"Analysed with: Python {platform.python_version()}, {', '.join(_versions(LIBRARIES))}.",
        f"Made by: {command}",
    ]


def _describe_exclusions(findings: Findings) -> list[str]:
    frames, lines = findings.frames, []
    untrained = frames.trials["epochs"] == 0
    if untrained.any():
        lines.append(f"{untrained.sum()} trials were not trained (epochs 0) and enter no estimate of errors.")
    ended_well = (frames.trials["status"] == schema.STATUS_OK) & ~untrained
    unmeasured = ended_well & frames.trials["final_train_error"].isna()
    if unmeasured.any():
        lines.append(f"{unmeasured.sum()} trials ended without a finite error and enter no estimate of errors.")
    if frames.incomplete:
        names = ", ".join(frames.incomplete[:3]) + (" and others" if len(frames.incomplete) > 3 else "")
        lines.append(f"The tables of {len(frames.incomplete)} trials are lost ({names}); their metrics stand for them.")
    conditions = frames.trials["conditions"].nunique()
    if conditions > 1:
        lines.append(
            f"One threshold of failure holds for all {conditions} conditions: where some end with smaller "
            "errors, as after more epochs, more of the others count as failed (--failure-error gives another)."
        )
    if findings.outcomes.note:
        lines.append(findings.outcomes.note)
    return lines


def _versions(libraries: Sequence[str]) -> list[str]:
    return [f"{library} {importlib.metadata.version(library)}" for library in libraries]
