"""Command line of the analysis: `report` a study, ask one question of it, draw `run-figures` or an `atlas`."""

import argparse
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from study.one_line_errors import BAD_USAGE, INTERRUPTED, OneLineParser, print_error
from study.run_log_schema import check_study_name
from study.tracking_uri import default_tracking_uri, home_tracking_uri, name_store, without_secrets

if TYPE_CHECKING:
    from analysis.findings import Findings
    from analysis.section import Section

QUESTIONS = {
    "rates": "how fast gradients explode, per network and epoch, beside theory",
    "depth": "how deep each network can be trained, and which rule predicts it",
    "tradeoff": "what stops training, the best dilution, and the Pareto front",
    "importance": "which parameters the final error depends on",
}
ROWS_SHOWN = 60
OUTPUT = Path("reports")
PAGE_FORMATS = "html", "md"


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, 2 for bad usage, 130 when interrupted."""
    options = _make_parser().parse_args(arguments)
    try:
        if "name" in options:
            check_study_name(options.name)
            of_storage = home_tracking_uri(options.storage) if options.storage else default_tracking_uri()
            if options.storage and not options.tracking_uri and of_storage != default_tracking_uri(options.storage):
                print(f"--storage {options.storage} is read, not $MLFLOW_TRACKING_URI", file=sys.stderr)
            options.tracking_uri = options.tracking_uri or of_storage
        options.command(options, Console())
    except ValueError as error:
        print_error(error)
        return BAD_USAGE
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    return 0


def _text(value: str) -> str:
    if not value:
        raise argparse.ArgumentTypeError("is empty; give a value or leave the option out")
    return value


def _path(value: str) -> Path:
    return Path(_text(value))


def _make_parser() -> argparse.ArgumentParser:
    parser = OneLineParser(prog="python -m analysis", description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    report = commands.add_parser("report", help="write reports/NAME/index.html and its tables, also to MLflow")
    report.add_argument(
        "--format", choices=PAGE_FORMATS, default=PAGE_FORMATS[0], help="of the page (default: %(default)s)"
    )
    report.set_defaults(command=report_command)
    questions = {name: commands.add_parser(name, help=help) for name, help in QUESTIONS.items()}
    for name, question in questions.items():
        question.set_defaults(command=section_command, question=name)
    for command in (report, *questions.values()):
        command.add_argument("--output", type=_path, default=OUTPUT, help="folder (default: %(default)s)")
        command.add_argument(
            "--failure-error",
            type=float,
            metavar="ERROR",
            help="final training error from which a training counts as failed (default: chosen by the analysis)",
        )
    run_figures = commands.add_parser("run-figures", help="give every run in MLflow a figure of its GSC by layer")
    run_figures.set_defaults(command=run_figures_command)
    atlas = commands.add_parser("atlas", help="write table and figure of a GSC atlas from its CSV")
    atlas.add_argument("csv", type=_path, help="what `python -m study atlas` wrote")
    atlas.add_argument("--table", type=_path, required=True, help="Markdown file to write")
    atlas.add_argument("--figure", type=_path, required=True, help="PNG file to write")
    atlas.set_defaults(command=atlas_command)
    for command in (report, *questions.values(), run_figures):
        command.add_argument("name", help="name of the study")
        command.add_argument(
            "--tracking-uri", type=_text, help="MLflow store (default: $MLFLOW_TRACKING_URI or studies/mlflow.db)"
        )
        command.add_argument("--storage", type=_path, help="folder of records, whose mlflow.db is the MLflow store")
    return parser


def _find(options: argparse.Namespace) -> "Findings":
    """Load the study that is asked about."""
    from analysis.findings import Findings
    from analysis.load_runs import load_study

    if options.failure_error is not None and not 0 < options.failure_error < 1:
        raise ValueError(f"failure-error: {options.failure_error:g} is out of range; give a number between 0 and 1")
    return Findings(load_study(options.name, options.tracking_uri), options.failure_error)


def report_command(options: argparse.Namespace, console: Console) -> None:
    """Write a report and store it."""
    from analysis.report import write_report
    from analysis.store_results import store_report

    command = _report_command(options, options.format)
    with console.status("Writing the report …"):
        written = write_report(_find(options), options.output / options.name, command, options.format)
        store_report(options.name, options.tracking_uri, written.files, written.summary)
    for line in written.lines:
        console.print(Text(line), end="\n\n")
    console.print(f"Report: {written.page}", highlight=False, soft_wrap=True, markup=False)


def _report_command(options: argparse.Namespace, page_format: str) -> str:
    """Return what writes the report of the same study into the same folder."""
    command = ["python", "-m", "analysis", "report", options.name]
    if options.failure_error is not None:
        command += ["--failure-error", str(options.failure_error)]
    if options.storage is not None and options.tracking_uri == home_tracking_uri(options.storage):
        command += ["--storage", str(options.storage)]
    else:
        command += name_store(without_secrets(options.tracking_uri, options.tracking_uri))
    if page_format != PAGE_FORMATS[0]:
        command += ["--format", page_format]
    if options.output != OUTPUT:
        command += ["--output", str(options.output)]
    return shlex.join(command)


def section_command(options: argparse.Namespace, console: Console) -> None:
    """Print one section's text and tables; write its files."""
    from analysis.section import make_console_table, write_section_files

    with console.status("Analysing …"):
        section = _section_makers()[options.question](_find(options))
        written = write_section_files(section, options.output / options.name)
    for line in section.text:
        console.print(Text(line), end="\n\n")
    for table in section.tables:
        shown = make_console_table(table, console.width, ROWS_SHOWN)
        console.print(shown, width=shown.width, crop=False)
        hidden = len(table.rows) - ROWS_SHOWN
        console.print(f"… and {hidden} more rows in {table.name}.csv\n" if hidden > 0 else "", markup=False)
    files = ", ".join(path.name for path in written)
    folder = options.output / options.name
    console.print(f"Wrote {files or 'nothing'} in {folder}", highlight=False, markup=False)
    for page_format in PAGE_FORMATS:
        page = f"index.{page_format}"
        if (folder / page).exists():
            again = f"{page} there is of an earlier report; to write it again: {_report_command(options, page_format)}"
            console.print(again, highlight=False, markup=False, soft_wrap=True)


def _section_makers() -> "dict[str, Callable[[Findings], Section]]":
    """Import late: other commands need no estimators."""
    from analysis.depth_section import make_depth_section
    from analysis.importance_section import make_importance_section
    from analysis.rate_section import make_rate_section
    from analysis.tradeoff_section import make_tradeoff_section

    return {
        "rates": make_rate_section,
        "depth": make_depth_section,
        "tradeoff": make_tradeoff_section,
        "importance": make_importance_section,
    }


def run_figures_command(options: argparse.Namespace, console: Console) -> None:
    """Draw the figures that are missing."""
    from analysis.figures import draw_run_figure
    from analysis.store_results import attach_gsc_figures

    drawn = attach_gsc_figures(options.name, options.tracking_uri, draw_run_figure)
    console.print(f"Drew {drawn} figures of GSC by layer.")


def atlas_command(options: argparse.Namespace, console: Console) -> None:
    """Write table and figure of an atlas."""
    from analysis.atlas import load_atlas, write_atlas_pages

    atlas = load_atlas(options.csv)
    write_atlas_pages(atlas, options.table, options.figure)
    console.print(
        f"{atlas['agrees'].sum()} of {len(atlas)} cells agree with theory. Wrote {options.table} and {options.figure}.",
        highlight=False,
    )


if __name__ == "__main__":
    sys.exit(main())
