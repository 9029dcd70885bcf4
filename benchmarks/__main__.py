"""This project beside what people run today, on this machine, in one run: `make bench` or `python -m benchmarks`.

Writes tables as JSON and Markdown into benchmarks/results/: rows of a part that is not finished into files of their
own, and the part, when it is, in place of what it was earlier that day. docs/speed.md says how to read them.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import torch

from benchmarks.images import load_or_exit
from benchmarks.machine import describe_machine
from benchmarks.markdown import write_page
from benchmarks.probe_cost import measure_probes
from benchmarks.step_speed import measure_apart
from benchmarks.study_overhead import measure_overhead
from benchmarks.throughput import list_contenders, time_contender
from study.interruption import treat_sigterm_as_ctrl_c
from study.one_line_errors import INTERRUPTED, OneLineParser
from study.packing import CPU_PACK
from study.trial_config import PRECISIONS

RESULTS = Path(__file__).parent / "results"
CPU_PACKS: tuple[int, ...] = (1, 4, 16, 64)
GPU_PACKS: tuple[int, ...] = (1, 16, 64, 256)
USUAL_PACK = {"cpu": CPU_PACK, "cuda": 64}
DEPTHS = (10, 25, 50, 100, 200, 400)

Row: TypeAlias = dict[str, Any]


def main() -> None:
    """Measure, print, record. What is wrong with the arguments is said in one line before anything is measured."""
    parser = OneLineParser(prog="python -m benchmarks", description=__doc__.partition("\n")[0])
    parser.add_argument("--data", default=_default_data(), help="as for `python -m study run` (default: %(default)s)")
    parser.add_argument("--epochs", type=_count, default=2, help="of every contender (default: %(default)s)")
    parser.add_argument(
        "--packs", type=_counts, help="sizes of ours, as in 1,4,16 (default: 1,4,16,64; on a GPU 1,16,64,256)"
    )
    parser.add_argument("--parts", default="steps,probes,throughput,overhead", help="default: %(default)s")
    parser.add_argument(
        "--precisions",
        type=_precisions,
        default=PRECISIONS,
        help="fp32, bf16 or (default) fp32,bf16",
    )
    parser.add_argument("--quick", action="store_true", help="few contenders, one epoch: to see that it runs")
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    packs = options.packs or ((1, 4) if options.quick else GPU_PACKS if device == "cuda" else CPU_PACKS)
    epochs, depths = (1, (10,)) if options.quick else (options.epochs, DEPTHS)
    parts: dict[str, Callable[[], Iterator[Row]]] = {
        "steps": lambda: _measure_steps(packs, depths, options.precisions, device, options.data),
        "probes": lambda: measure_probes(options.data, device, epochs, USUAL_PACK[device]),
        "throughput": lambda: (
            time_contender(contender, epochs, options.data)
            for contender in list_contenders(device, packs, options.precisions)
        ),
        "overhead": lambda: measure_overhead(10 if options.quick else 300, 1.0),
    }
    chosen = options.parts.split(",")
    for name in chosen:
        if name not in parts:
            parser.error(f"argument --parts: {name!r} does not exist; choose from {', '.join(parts)}")
    machine = describe_machine(device)
    path = RESULTS / f"speed_{device}_{machine['date']}{'_quick' if options.quick else ''}.json"
    results = json.loads(path.read_text()) if path.exists() else {}  # parts can be measured one by one
    if results and results.get("data") != options.data:
        parser.error(f"argument --data: {path} was measured on {results.get('data')}; give that, or move the file away")
    load_or_exit(options.data)
    measured_before = {name: results["machine"] for name in parts if name in results}
    results["machines"] = measured_before | results.get("machines", {})
    results |= {"machine": machine, "data": options.data}
    RESULTS.mkdir(exist_ok=True)
    try:
        for name in chosen:
            _measure(name, parts[name](), results, path)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
    print(f"Recorded in {path} and {path.with_suffix('.md').name}")


def _measure(name: str, rows: Iterator[Row], results: dict[str, Any], path: Path) -> None:
    """Measure one part row by row, keeping what there is."""
    unfinished = path.with_stem(f"{path.stem}_unfinished")
    print(f"{name} …", flush=True)
    results[name], results["machines"][name] = [], results["machine"]
    for row in rows:
        _tell(row)
        results[name].append(row)
        _write(results, unfinished)
    _write(results, path)
    unfinished.unlink()
    unfinished.with_suffix(".md").unlink()


def _count(value: str) -> int:
    if not value.isdecimal() or not int(value):
        raise argparse.ArgumentTypeError(f"{value!r} is out of range; give a whole number of at least 1")
    return int(value)


def _counts(value: str) -> tuple[int, ...]:
    return tuple(map(_count, value.split(",")))


def _precisions(value: str) -> tuple[str, ...]:
    chosen = tuple(dict.fromkeys(value.split(",")))
    if not set(chosen) <= set(PRECISIONS):
        raise argparse.ArgumentTypeError(f"{value!r} does not exist; choose from {', '.join(PRECISIONS)}")
    return chosen


def _write(results: dict[str, Any], path: Path) -> None:
    path.write_text(json.dumps(results, indent=2) + "\n")
    write_page(results, path.with_suffix(".md"))


def _default_data() -> str:
    return "images:data/cifar10" if Path("data/cifar10/train").is_dir() else "synthetic:50000"


def _measure_steps(
    packs: tuple[int, ...], depths: tuple[int, ...], precisions: tuple[str, ...], device: str, data: str
) -> Iterator[Row]:
    """Measure steps by pack size at depth 50, and by depth in the packs that are usual."""
    shapes = [(50, pack) for pack in packs] + [(depth, USUAL_PACK[device]) for depth in depths if depth != 50]
    if device == "cpu" and 64 in packs:
        shapes.append((200, 64))
    for precision in precisions:
        for depth, pack in shapes:
            yield measure_apart(depth, pack, precision, device, data)


def _tell(row: Row) -> None:
    """Print a row."""
    print("  " + ", ".join(f"{key} {_write_short(value)}" for key, value in row.items()), flush=True)


def _write_short(value: object) -> str:
    if isinstance(value, list):
        return " ".join(map(_write_short, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    treat_sigterm_as_ctrl_c()
    main()
