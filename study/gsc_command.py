"""Options of `python -m study gsc` → a measurement of untrained networks, as a table, JSON or CSV."""

import argparse
import csv
import difflib
import importlib
import inspect
import json
import os
import sys
from collections.abc import Callable
from typing import Any

import torch
from rich import box
from rich.console import Console
from rich.table import Table

from study.gsc_measurement import LAYER_COLUMNS, Estimate, GscMeasurement
from study.gsc_of_models import measure_model
from study.gsc_of_networks import measure_networks
from study.image_sources import import_torchvision_datasets
from study.trial_config import TrialConfig, one_line

FIELDS = ("width", "activation", "normalization", "dilution", "initialization", "gain")
NETWORK_OPTIONS = ("depth", *FIELDS, "inputs", "outputs")
MODEL_OPTIONS = ("input", "classes", "modules", "dtype")
MODEL_BATCH, MODEL_SEEDS = 32, 3
BATCH, SEEDS, INPUTS, OUTPUTS, DEPTH = 250, 10, 100, 10, 50
SHOWN_LAYERS = 13
LARGEST = {"seeds": 10_000, "depth": 1_000_000, "probe_vectors": 1_000_000}
"""What may be asked for at most; of everything else 100,000,000, which fits into no memory with the rest."""


def measure(options: argparse.Namespace) -> GscMeasurement:
    """Measure what was asked for. Raises ValueError for an option that is out of range or does not belong."""
    wrong = MODEL_OPTIONS if options.model is None else NETWORK_OPTIONS
    for name in wrong:
        if getattr(options, name) is not None:
            belongs = "goes with --model" if options.model is None else "is of the study's networks, not of --model"
            raise ValueError(f"{name}: --{name} {belongs}; leave it out")
    for name in ("inputs", "outputs", "seeds", "classes", "batch", "width", "depth", "probe_vectors"):
        value, most = getattr(options, name), LARGEST.get(name, 100_000_000)
        if value is not None and value < 1:
            raise ValueError(f"{name}: {value} is out of range; give at least 1")
        if value is not None and value > most:
            raise ValueError(f"{name}: {value} is out of range; give at most {most}")
    try:
        return _measure_networks(options) if options.model is None else _measure_model(options)
    except (RuntimeError, MemoryError) as error:
        if "alloc" not in str(error) and "memory" not in str(error) and not isinstance(error, MemoryError):
            raise
        raise ValueError(f"memory: this does not fit ({one_line(error)}); give smaller sizes") from None


def _measure_model(options: argparse.Namespace) -> GscMeasurement:
    return measure_model(
        load_factory(options.model, options.classes),
        options.model,
        input_shape=_parse_shape(options.input),
        batch=options.batch or MODEL_BATCH,
        classes=options.classes or OUTPUTS,
        seeds=options.seeds or MODEL_SEEDS,
        probe_vectors=options.probe_vectors,
        modules=options.modules.split(",") if options.modules is not None else None,
        dtype=torch.float32 if options.dtype == "float32" else torch.float64,
    )


def _measure_networks(options: argparse.Namespace) -> GscMeasurement:
    if options.batch == 1:
        raise ValueError("batch: 1 is out of range; give at least 2")
    given = {name: getattr(options, name) for name in FIELDS if getattr(options, name) is not None}
    trials = [
        TrialConfig(
            depth=DEPTH if options.depth is None else options.depth,
            seed=seed,
            batch_size=options.batch or BATCH,
            probe_vectors=options.probe_vectors,
            **given,
        )
        for seed in range(options.seeds or SEEDS)
    ]
    inputs, outputs = options.inputs or INPUTS, options.outputs or OUTPUTS
    _check_memory(trials[0], inputs, outputs)
    return measure_networks(trials, inputs=inputs, outputs=outputs)


def _check_memory(trial: TrialConfig, inputs: int, outputs: int) -> None:
    """Raise MemoryError, before minutes of drawing weights, when these alone are more than this machine's memory."""
    weights = trial.width * (inputs + (trial.depth - 2) * trial.width + outputs)
    most = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if 8 * weights > most:  # float64
        raise MemoryError(f"weights of {8 * weights / 1e9:,.0f} GB, memory of {most / 1e9:,.0f} GB")


def load_factory(path: str, classes: int | None) -> Callable[[], torch.nn.Module]:
    """Return a function without arguments that makes a model, from `package.module:factory`.

    A factory with a parameter `num_classes`, or with keywords of any name, gets the number of classes.

    Raises:
        ValueError: it cannot be imported.
    """
    module_name, _, name = path.partition(":")
    if not name:
        raise ValueError(f"model: {path!r} names no factory; give package.module:factory")
    try:
        if module_name.partition(".")[0] == "torchvision":
            import_torchvision_datasets()  # mends its import beside a CPU-only torch
        module = importlib.import_module(module_name)
        if not hasattr(module, name):
            functions = tuple(known for known, value in vars(module).items() if callable(value) and known[0] != "_")
            near = difflib.get_close_matches(name, functions, n=1)
            raise AttributeError(f"no {name!r} there" + (f"; did you mean {near[0]!r}?" if near else ""))
        factory = getattr(module, name)
        parameters = inspect.signature(factory).parameters.values()
    except (Exception, SystemExit) as error:  # whatever somebody's module raises
        raise ValueError(f"model: {path} cannot be imported ({type(error).__name__}: {one_line(error)})") from None
    takes_classes = any(p.name == "num_classes" or p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)
    keywords = {"num_classes": classes} if takes_classes and classes is not None else {}

    def make_model() -> torch.nn.Module:
        try:
            model: torch.nn.Module = factory(**keywords)
        except (Exception, SystemExit) as error:  # whatever somebody's factory raises
            raise ValueError(f"model: {path} raised {type(error).__name__}: {one_line(error)}") from None
        return model

    return make_model


def _parse_shape(text: str | None) -> list[int]:
    """Turn `3,32,32` into numbers; raises ValueError."""
    if text is None:
        raise ValueError("input: is missing; give the shape of one example, as in --input 3,32,32")
    try:
        shape = [int(part) for part in text.split(",")]
    except ValueError:
        shape = []
    if not shape or min(shape) < 1:
        raise ValueError(f"input: {text!r} is no shape; give the shape of one example, as in --input 3,32,32")
    return shape


def write(measured: GscMeasurement, form: str, console: Console) -> None:
    """Print a measurement as table, json or csv."""
    if form == "json":
        console.print_json(json.dumps(measured.to_json(), allow_nan=False))
    elif form == "csv":
        writer = csv.DictWriter(sys.stdout, LAYER_COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(measured.layers)
    else:
        _print_tables(measured, console)


def _print_tables(measured: GscMeasurement, console: Console) -> None:
    seeds = measured.settings["seeds"]
    console.print(f"{measured.subject}: {seeds} seed{'s' if seeds > 1 else ''}", highlight=False, markup=False)
    console.print(_tabulate_layers(measured))
    table = Table(box=box.SIMPLE_HEAD, collapse_padding=True, pad_edge=False)
    for heading in ("quantity", "mean", "95% interval", "s.d.", "s.e."):
        table.add_column(heading, justify="left" if heading == "quantity" else "right", no_wrap=True)
    quantities: list[tuple[str, Estimate | None]] = [
        ("log10 GSC, input to output", measured.log10_gsc),
        ("log10 GSC, input to losses", measured.log10_gsc_to_loss),
        (f"explosion rate per {'state' if 'model' in measured.settings else 'layer'}", measured.explosion_rate),
    ]
    for label, estimate in quantities:
        if estimate is not None:
            interval = "" if estimate.low is None else f"{_write(estimate.low)} … {_write(estimate.high)}"
            rest = (estimate.standard_deviation, estimate.probe_standard_error)
            table.add_row(label, _write(estimate.mean), interval, *map(_write, rest))
    if measured.predicted_explosion_rate is not None:
        table.add_row("the same in mean-field theory", _write(measured.predicted_explosion_rate), "", "", "")
    console.print(table)
    console.print(
        "s.d. over seeds, s.e. of one probe. Of the nonlinearity that follows: std 0 means collapsed, 1 not; signs 0 "
        "collapsed, 0.5 balanced; fit 0 acts linearly." + ("" if "depth" in measured.settings else " *: in the rate."),
        style="dim",
    )
    console.print(measured.reading, highlight=False, markup=False, style="bold")


def _tabulate_layers(measured: GscMeasurement) -> Table:
    """Return the rows of a model, or of some layers of a network, evenly spaced, the ends among them."""
    table = Table(box=box.SIMPLE_HEAD, collapse_padding=True, pad_edge=False)
    for heading in ("layer", "name", "width", "log10 GSC", "s.d.", "s.e.", "std", "signs", "fit"):
        if heading == "name":
            table.add_column(heading, overflow="fold")  # where there is little room, it alone gives way
        else:
            table.add_column(heading, justify="right", no_wrap=True, min_width=max(5, len(heading)))
    count, model = len(measured.layers), "model" in measured.settings
    shown = range(count) if model or count <= SHOWN_LAYERS else _spread(count, SHOWN_LAYERS)
    columns = [column for column in LAYER_COLUMNS if column not in ("layer", "on_path")]
    for place in shown:
        row = measured.layers[place]
        mark = "*" if model and row["on_path"] else ""
        table.add_row(f"{mark}{place}", *(_write(row[column]) for column in columns))
    if len(shown) < count:
        table.caption = f"{len(shown)} of {count} layers; all with --format csv"
    return table


def _spread(count: int, shown: int) -> list[int]:
    """Return the input and evenly spaced stream states, the first and the last among them."""
    return sorted({0, *(1 + round(place * (count - 2) / (shown - 2)) for place in range(shown - 1))})


def _write(value: Any) -> str:
    if value is None:
        return ""
    return f"{value + 0.0:.3f}".replace("-0.000", "0.000") if isinstance(value, float) else str(value)
