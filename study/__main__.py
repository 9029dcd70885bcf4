"""Command line: `run` and `plan` a search space, `status` and `sync` a study, `gsc` and `atlas` of untrained networks.

Exit status: 0 every trial ended (diverging is an ending), 1 some failed, 2 bad usage, 130 interrupted.
"""

import argparse
import atexit
import contextlib
import math
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console

from study import run_log_schema as schema
from study.interruption import treat_sigterm_as_ctrl_c
from study.lasting_console import LastingConsole
from study.one_line_errors import BAD_USAGE, INTERRUPTED, SOME_FAILED, OneLineParser, print_error
from study.packing import CPU_PACK, make_packs
from study.plan import adjust_trials, print_plan
from study.space_loading import load_space
from study.study_folder import CHECKPOINT_SECONDS, StorageError
from study.trial_config import (
    ACTIVATIONS,
    INITIALIZATIONS,
    NAMED_GAINS,
    NORMALIZATIONS,
    PRECISIONS,
    TrialConfig,
)


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    parser = make_parser()
    options = parser.parse_args(arguments)
    console = LastingConsole()
    treat_sigterm_as_ctrl_c()
    try:
        return options.command(options, console)
    except ValueError as error:
        # Everything that is wrong with what the user asked for is a ValueError of one line, raised before Ray starts.
        print_error(error)
        return BAD_USAGE
    except StorageError as error:
        print_error(error)
        return SOME_FAILED
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        goes_on = options.command in (run_command, sync_command)
        hint = "; the same command goes on where this one stopped" if goes_on else ""
        print(f"interrupted{hint}", file=sys.stderr)
        return INTERRUPTED


def make_parser() -> argparse.ArgumentParser:
    """Declare commands and options."""
    parser = OneLineParser(prog="python -m study", description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    for declare in (_declare_run, _declare_status, _declare_sync, _declare_plan, _declare_gsc, _declare_atlas):
        declare(commands)
    return parser


def _declare_run(commands: Any) -> None:
    run = commands.add_parser("run", help="train every trial of a search space that is not finished yet")
    _add_space_arguments(run)
    run.add_argument("--name", help="name of the study (default: that of the space)")
    run.add_argument(
        "--data",
        help="cifar10 | images:DIR | synthetic | synthetic:N; auto, for the demo alone (its default), takes CIFAR-10 "
        "if it is at hand or quick to fetch, else synthetic images (default: cifar10)",
    )
    run.add_argument(
        "--data-folder", type=_path, default=Path("data"), help="downloads and caches (default: %(default)s)"
    )
    run.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: GPUs if there are any")
    run.add_argument("--storage", type=_path, default=schema.DEFAULT_STORAGE, help="records (default: %(default)s)")
    run.add_argument(
        "--tracking-uri", type=_text, help="MLflow store (default: $MLFLOW_TRACKING_URI, or sqlite in the storage)"
    )
    run.add_argument(
        "--address", type=_text, help="an existing Ray cluster, as for ray.init (default: Ray on this machine)"
    )
    run.add_argument(
        "--checkpoint-seconds",
        type=_seconds,
        default=CHECKPOINT_SECONDS,
        help="least time between two checkpoints of a pack (default: %(default)g)",
    )
    run.add_argument(
        "--send-later", action="store_true", help="record only, and leave MLflow to `python -m study sync`"
    )
    run.add_argument("--dry-run", action="store_true", help="check everything, print the plan, train nothing")
    run.set_defaults(command=run_command)


def _declare_status(commands: Any) -> None:
    status = commands.add_parser("status", help="show where a study's trials stand, from its records alone")
    status.add_argument("name", help="name of the study")
    status.add_argument("--storage", type=_path, default=schema.DEFAULT_STORAGE, help="default: %(default)s")
    status.add_argument("--json", action="store_true", help="print everything as JSON")
    status.set_defaults(command=status_command)


def _declare_sync(commands: Any) -> None:
    sync = commands.add_parser("sync", help="send to MLflow what it lacks of a study's records")
    sync.add_argument("name", help="name of the study")
    sync.add_argument("--storage", type=_path, default=schema.DEFAULT_STORAGE, help="default: %(default)s")
    sync.add_argument("--tracking-uri", type=_text, help="MLflow store (default: as for run)")
    sync.set_defaults(command=sync_command)


def _declare_plan(commands: Any) -> None:
    plan = commands.add_parser("plan", help="print the trials, packs and work of a search space")
    _add_space_arguments(plan)
    plan.set_defaults(command=plan_command)


def _declare_gsc(commands: Any) -> None:
    gsc = commands.add_parser("gsc", help="measure GSC of untrained networks on Gaussian input")
    gsc.add_argument("--depth", type=int, help="number of linear layers (default: 50)")
    gsc.add_argument("--width", type=int, help="units per hidden layer (default: 100)")
    gsc.add_argument("--activation", help=" | ".join(ACTIVATIONS) + " (default: relu)")
    gsc.add_argument("--normalization", help=" | ".join(NORMALIZATIONS) + " (default: none)")
    gsc.add_argument("--dilution", type=float, help="k, skip over residual path (default: 0)")
    gsc.add_argument("--initialization", help=" | ".join(INITIALIZATIONS) + " (default: gaussian)")
    gsc.add_argument("--gain", type=_number_or_name, help=" | ".join(NAMED_GAINS) + " | a number (default: critical)")
    gsc.add_argument("--inputs", type=int, help="Gaussian inputs per example (default: 100)")
    gsc.add_argument("--outputs", type=int, help="logits (default: 10)")
    gsc.add_argument("--model", type=_text, help="another model than the study's, as package.module:factory")
    gsc.add_argument("--input", type=_text, help="with --model: shape of one example, as in 3,32,32")
    gsc.add_argument("--classes", type=int, help="with --model: classes of the random labels (default: 10)")
    gsc.add_argument("--modules", type=_text, help="with --model: names of the modules to read, as in layer1,layer2")
    gsc.add_argument("--dtype", choices=("float64", "float32"), help="with --model: precision (default: float64)")
    gsc.add_argument("--batch", type=int, help="examples (default: 250; 32 with --model)")
    gsc.add_argument("--seeds", type=int, help="networks to average over (default: 10; 3 with --model)")
    gsc.add_argument("--probe-vectors", type=int, default=10, help="sign vectors per estimate (default: %(default)s)")
    gsc.add_argument("--format", choices=("table", "json", "csv"), default="table", help="default: %(default)s")
    gsc.add_argument("--plot", type=_path, help="draw GSC by layer into this PNG, too", metavar="FILE.png")
    gsc.set_defaults(command=gsc_command)


def _declare_atlas(commands: Any) -> None:
    atlas = commands.add_parser("atlas", help="measure explosion rates of the whole family beside theory, into a CSV")
    atlas.add_argument("--output", type=_path, default=Path("gsc_atlas.csv"), help="default: %(default)s")
    atlas.add_argument("--width", type=int, action="append", help="widths, once per value (default: 100 and 1000)")
    atlas.add_argument("--depth", type=int, help="number of linear layers (default: 12)")
    atlas.add_argument("--seeds", type=int, help="networks per cell, at least 2 (default: 6)")
    atlas.set_defaults(command=atlas_command)


def _text(value: str) -> str:
    if not value:
        raise argparse.ArgumentTypeError("is empty; give a value or leave the option out")
    return value


def _path(value: str) -> Path:
    return Path(_text(value))


def _seconds(value: str) -> float:
    seconds = float(value)
    if not 0 <= seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{value} is out of range; give 0 (after every epoch) or more seconds")
    return seconds


def _number_or_name(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _add_space_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("space", help="demo | depth | dilution | rescue | tradeoff, or path/to/file.py:function")
    parser.add_argument(
        "--epochs", type=int, help="instead of what the space says; 0 measures untrained networks and trains none"
    )
    parser.add_argument(
        "--precision", help=" | ".join(PRECISIONS) + " of matrix products, instead of what the space says"
    )
    parser.add_argument("--limit", type=int, help="take only the first LIMIT trials")
    parser.add_argument(
        "--max-pack",
        type=int,
        help="trials trained together (default: chosen from memory and, in long studies, times)",
    )


def _load_trials(options: argparse.Namespace, console: Console) -> tuple[str, list[TrialConfig]]:
    """Return the space's name and its trials as they were asked for; says how many of them train nothing."""
    from search_spaces import SPACES

    name, trials = load_space(options.space, SPACES)
    trials = adjust_trials(trials, options.epochs, options.limit, options.precision)
    if untrained := sum(trial.epochs == 0 for trial in trials):
        console.print(
            f"{untrained} of {len(trials)} trials have epochs=0: their networks are measured and not trained, "
            "so that their errors are about those of a guess.",
            style="yellow",
            highlight=False,
            soft_wrap=True,
        )
    return name, trials


def plan_command(options: argparse.Namespace, console: Console) -> int:
    """Print the plan of a space."""
    name, trials = _load_trials(options, console)
    max_pack = CPU_PACK if options.max_pack is None else options.max_pack
    print_plan(name, trials, make_packs(trials, max_pack), console)
    return 0


def status_command(options: argparse.Namespace, console: Console) -> int:
    """Show where a study stands."""
    from study.status_command import show_status

    return show_status(options.storage, options.name, options.json, console)


def sync_command(options: argparse.Namespace, console: Console) -> int:
    """Send a study's records to MLflow."""
    from study.sync_command import sync_study

    return sync_study(options.storage, options.name, options.tracking_uri, console)


def gsc_command(options: argparse.Namespace, console: Console) -> int:
    """Measure GSC of untrained networks."""
    from study import gsc_command

    if options.plot is not None and options.plot.suffix != ".png":
        raise ValueError(f"plot: {options.plot} is no PNG; give a name that ends in .png")
    if options.plot is not None:
        _check_writable("plot", options.plot)
    measured = gsc_command.measure(options)
    gsc_command.write(measured, options.format, console)
    if options.plot is not None:
        from analysis.figures import draw_measurement

        draw_measurement(measured.to_json(), options.plot)
    return 0


def _check_writable(name: str, path: Path) -> None:
    """Raise ValueError, before minutes are spent, when a file cannot be written."""
    if not path.parent.is_dir():
        raise ValueError(f"{name}: folder {path.parent} does not exist; make it or choose another")
    try:
        if path.exists():
            path.open("ab").close()
        else:
            tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise ValueError(f"{name}: cannot write to {path} ({error.strerror}); choose another file") from None


def atlas_command(options: argparse.Namespace, console: Console) -> int:
    """Measure the atlas."""
    from rich.progress import track

    from study import gsc_atlas

    widths = options.width or gsc_atlas.WIDTHS
    depth = gsc_atlas.DEPTH if options.depth is None else options.depth
    seeds = gsc_atlas.SEEDS if options.seeds is None else options.seeds
    for name, value, least in (("width", min(widths), 1), ("depth", depth, 3), ("seeds", seeds, 2)):
        if value < least:
            raise ValueError(f"{name}: {value} is out of range; give at least {least}")
    _check_writable("output", options.output)
    cells = gsc_atlas.all_cells(widths)
    rows = gsc_atlas.measure_atlas(cells, depth, seeds)
    measured = list(track(rows, "measuring", total=len(cells), console=console, disable=not console.is_terminal))
    gsc_atlas.write_atlas(measured, options.output)
    console.print(f"Wrote {len(measured)} cells to {options.output}", highlight=False, markup=False)
    return 0


def run_command(options: argparse.Namespace, console: Console) -> int:
    """Run a study to its end; see `study.driver`."""
    space_name, trials = _load_trials(options, console)
    if options.max_pack is not None:
        make_packs(trials, options.max_pack)
    name = schema.check_study_name(space_name if options.name is None else options.name)
    default_data = "auto" if options.space == "demo" else "cifar10"
    data = default_data if options.data is None else options.data
    if data == "auto" and options.space != "demo":
        raise ValueError("data: 'auto' is for the demo alone; choose cifar10, images:DIR or synthetic")

    from study import driver

    return driver.run_study(
        driver.StudyOptions(
            name=name,
            data=data,
            data_folder=options.data_folder,
            max_pack=options.max_pack,
            device=options.device,
            storage=options.storage,
            tracking_uri=options.tracking_uri,
            address=None if options.address == "local" else options.address,  # which is what Ray means by it
            dry_run=options.dry_run,
            checkpoint_seconds=options.checkpoint_seconds,
            send_later=options.send_later,
        ),
        trials,
        console,
    )


def end_process(status: int) -> None:
    """Exit as `sys.exit` does, without freeing object by object what Ray, MLflow and torch hold: that takes 0.7 s."""
    atexit._run_exitfuncs()
    with contextlib.suppress(AttributeError, BrokenPipeError):  # nobody reads the output, or has seen enough of it
        sys.stdout.flush()
    os._exit(status)


if __name__ == "__main__":
    end_process(main())
