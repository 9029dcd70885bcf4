"""A trial and a device → the seconds of a training step in packs of growing size."""

import dataclasses
import time

import torch

from study.datasets import Dataset
from study.device_split import make_device_split
from study.kernels import make_block_kernels
from study.network import PackedNetwork
from study.optimizers import PackedOptimizer
from study.pack_size import ENOUGH
from study.train_loop import is_worth_compiling
from study.training_step import TrainingStep
from study.trial_config import TrialConfig

MEASURED_STEPS = 4


def measure_step_seconds(trial: TrialConfig, dataset: Dataset, device: str, largest: int) -> dict[int, float]:
    """Time steps of packs of 1, 2, 4, … `largest`, until larger ones are no better; seconds per member, by size."""
    train = make_device_split(dataset, "train", trial.train_size, device)
    compiled = is_worth_compiling(trial, len(train), train.images.device.type)
    kernels = make_block_kernels(trial.activation, trial.normalization, compiled, train.images.device.type)
    seconds: dict[int, float] = {}
    size = 1
    while size <= largest:
        members = [dataclasses.replace(trial, seed=seed) for seed in range(size)]
        network = PackedNetwork(members, train.images.shape[1], len(dataset.classes), device=device)
        optimizer = PackedOptimizer(members, network.stacked, MEASURED_STEPS, compiled=compiled)
        step = TrainingStep(network, optimizer, train, kernels, trial.batch_size, trial.precision)
        seconds[size] = _time_steps(step, len(train)) / size
        if size >= 4 and min(seconds[size // 2], seconds[size // 4]) <= ENOUGH * seconds[size]:
            break
        size *= 2
    return seconds


def _time_steps(step: TrainingStep, image_count: int) -> float:
    """Return the seconds of the quickest step: what else runs on the machine can only add to them."""
    members, batch_size = step.rows.shape
    order = torch.randint(image_count, (2 * MEASURED_STEPS, members, batch_size), device=step.rows.device)
    times = []
    for rows in order:
        started = time.perf_counter()
        step.run(rows)
        if rows.is_cuda:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return min(times[MEASURED_STEPS:])
