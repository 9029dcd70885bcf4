"""Trials per hour of the whole machine, ours beside what people run today, all in one run of `make bench`.

One process per core (on a GPU: one, or as many as share it), all started at once; the clock runs from their start to
the end of the last, so that imports, reading the images and loading compiled kernels count.
"""

import dataclasses
import os
import sys
import time

from benchmarks.processes import run_together


@dataclasses.dataclass(frozen=True)
class Contender:
    """What one row of the table is: arguments of `benchmarks.contenders`, and how many processes run it."""

    label: str
    arguments: tuple[str, ...]
    trials_each: int
    processes: int


def list_contenders(device: str, pack_sizes: tuple[int, ...], precisions: tuple[str, ...]) -> list[Contender]:
    """Return the rows of the table; `pack_sizes` are those of ours."""
    processes = 1 if device == "cuda" else os.cpu_count() or 1
    found = []
    for precision in precisions:
        common = ("--precision", precision, "--device", device)
        if device == "cpu":
            found.append(Contender(f"(a) tutorial loop, {precision}", ("tutorial", *common), 1, processes))
        found.append(Contender(f"(b) in memory, {precision}", ("in-memory", *common), 2, processes))
        if device == "cuda":
            found.append(Contender(f"(d) in memory, CUDA graph, {precision}", ("graphed", *common), 2, processes))
            found.append(Contender(f"(e) 16 in memory sharing the GPU, {precision}", ("in-memory", *common), 1, 16))
        for size in pack_sizes:
            arguments = ("packed", *common, "--pack", str(size))
            # A small pack is repeated, so that its start does not weigh more than another's.
            found.append(Contender(f"(c) ours, E = {size}, {precision}", arguments, max(size, 2), processes))
    return found


def time_contender(contender: Contender, epochs: int, data: str) -> dict[str, object]:
    """Run one contender; return its trials per hour and what they are made of."""
    print(f"  {contender.label} …", flush=True)  # it takes minutes
    each = contender.trials_each
    command = [sys.executable, "-m", "benchmarks.contenders", *contender.arguments, "--trials", str(each)]
    command += ["--epochs", str(epochs), "--data", data]
    commands = [[*command, "--first-seed", str(number * each)] for number in range(contender.processes)]
    started = time.perf_counter()
    inner = [float(printed) for printed in run_together(commands)]
    seconds = time.perf_counter() - started
    trials = contender.trials_each * contender.processes
    return {
        "label": contender.label,
        "trials": trials,
        "epochs": epochs,
        "processes": contender.processes,
        "seconds": seconds,
        "start_up_seconds": seconds - max(inner),
        "trials_per_hour": trials / seconds * 3600,
    }
