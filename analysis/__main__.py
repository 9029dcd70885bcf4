"""Command line of the analysis: `report` a study, draw `run-figures`."""

import argparse
import sys
from pathlib import Path

from rich.console import Console

from study.one_line_errors import BAD_USAGE, OneLineParser, print_error
from study.run_log_schema import check_study_name

INTERRUPTED = 130


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, or 2 for bad usage."""
    parser = OneLineParser(prog="python -m analysis", description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    report = commands.add_parser("report", help="write reports/NAME/index.html and its tables, also to MLflow")
    report.add_argument(
        "--output", type=_path, default=Path("reports"), help="folder of reports (default: %(default)s)"
    )
    report.set_defaults(command=report_command)
    run_figures = commands.add_parser("run-figures", help="give every run in MLflow a figure of its GSC by layer")
    run_figures.set_defaults(command=run_figures_command)
    atlas = commands.add_parser("atlas", help="write table and figure of a GSC atlas from its CSV")
    atlas.add_argument("csv", type=_path, help="what `python -m study atlas` wrote")
    atlas.add_argument("--table", type=_path, required=True, help="Markdown file to write")
    atlas.add_argument("--figure", type=_path, required=True, help="PNG file to write")
    atlas.set_defaults(command=atlas_command)
    for command in (report, run_figures):
        command.add_argument("name", help="name of the study")
        command.add_argument(
            "--tracking-uri", type=_text, help="MLflow store (default: $MLFLOW_TRACKING_URI or studies/mlflow.db)"
        )
    options = parser.parse_args(arguments)
    try:
        if "name" in options:
            check_study_name(options.name)
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


def report_command(options: argparse.Namespace, console: Console) -> None:
    """Write a report and store it."""
    from analysis.load_runs import load_study, store_report
    from analysis.report import write_report

    frames = load_study(options.name, options.tracking_uri)
    written = write_report(frames, options.output / options.name, f"python -m analysis report {options.name}")
    store_report(options.name, options.tracking_uri, written.page.parent, written.summary)
    console.print(written.summary, highlight=False)
    console.print(f"Report: {written.page}", highlight=False, soft_wrap=True)


def run_figures_command(options: argparse.Namespace, console: Console) -> None:
    """Draw the figures that are missing."""
    from analysis.figures import draw_run_figure
    from analysis.load_runs import attach_gsc_figures

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
