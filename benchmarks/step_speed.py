"""A network, a pack size and a precision → time, arithmetic rate and memory of one step.

Each measurement has a process of its own, so that its peak memory is its own. Times are those of the quickest of many
steps: whatever else runs on a machine can only add to them.
"""

import argparse
import dataclasses
import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.processes import run_together
from study.datasets import load_dataset
from study.device_split import make_device_split
from study.kernels import make_block_kernels
from study.network import PackedNetwork
from study.optimizers import PackedOptimizer
from study.processor import multiplies_with_onednn, prepare_processor
from study.training_step import TrainingStep
from study.trial_config import TrialConfig
from study.work import weight_count


def measure_steps(trial: TrialConfig, pack: int, data: str, device: str, steps: int = 20) -> dict[str, Any]:
    """Time steps of a pack; the rate counts the products alone, 6 operations per weight and image."""
    train = make_device_split(load_dataset(data, Path("data")), "train", 0, device)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    trials = [dataclasses.replace(trial, seed=seed) for seed in range(pack)]
    network = PackedNetwork(trials, train.images.shape[1], 10, device=device)
    optimizer = PackedOptimizer(trials, network.stacked, 1000, compiled=True)
    kernels = make_block_kernels(trial.activation, trial.normalization, True, device)
    step = TrainingStep(network, optimizer, train, kernels, trial.batch_size, trial.precision)
    times = []
    for rows in torch.randint(len(train), (steps + 5, pack, trial.batch_size)).to(device):
        started = time.perf_counter()
        step.run(rows)
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    best = min(times[5:]) / pack
    # The input layer has no gradient with respect to its input.
    operations = trial.batch_size * (6 * weight_count(trial) - 2 * 3072 * trial.width)
    on_device = torch.cuda.max_memory_allocated() if device == "cuda" else 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "depth": trial.depth,
        "pack": pack,
        "precision": trial.precision,
        "milliseconds": best * 1e3,
        "gflop_per_second": operations / best / 1e9,
        "first_step_seconds": times[0],
        "peak_gigabytes": (on_device or peak * 1024) / 1e9,
        "pack_gigabytes": (on_device or (peak - before) * 1024) / 1e9,
    }


def measure_peak(precision: str, device: str) -> float:
    """Return the best rate of a large square product, GFLOP/s: in fp32 where the processor has none in bfloat16."""
    has_bf16 = device == "cuda" or multiplies_with_onednn(torch.bfloat16)
    dtype = torch.bfloat16 if precision == "bf16" and has_bf16 else torch.float32
    best = 0.0
    for size in (512, 1024, 2048) if device == "cpu" else (4096, 8192):
        a, b = torch.randn(2, size, size, device=device).to(dtype)
        for _ in range(10):
            started = time.perf_counter()
            a @ b
            if device == "cuda":
                torch.cuda.synchronize()
            best = max(best, 2 * size**3 / (time.perf_counter() - started) / 1e9)
    return best


def measure_apart(depth: int, pack: int, precision: str, device: str, data: str) -> dict[str, Any]:
    """Measure in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.step_speed", "--depth", str(depth), "--pack", str(pack)]
    command += ["--precision", precision, "--device", device, "--data", data]
    return json.loads(run_together([command])[0])


def main() -> None:
    """Print one measurement as JSON, or the peak of the device."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--depth", type=int, default=50)
    parser.add_argument("--pack", type=int, default=16)
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--data", default="synthetic:50000")
    options = parser.parse_args()
    prepare_processor()
    trial = TrialConfig(depth=options.depth, normalization="batch", precision=options.precision)
    measured = measure_steps(trial, options.pack, options.data, options.device)
    measured["peak_gflop_per_second"] = measure_peak(options.precision, options.device)
    print(json.dumps(measured))


if __name__ == "__main__":
    main()
