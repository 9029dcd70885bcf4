"""A trial and a device → the seconds that it would take in packs of growing size."""

import dataclasses
import gc
import time
from collections.abc import Callable, Sequence
from functools import partial

import torch

from study.datasets import Dataset
from study.device_split import make_device_split
from study.evaluation import MOST_IMAGES_ON_GPU, evaluate
from study.kernels import make_block_kernels
from study.network import PackedNetwork
from study.optimizers import PackedOptimizer
from study.pack_size import ENOUGH, PACK_SECONDS
from study.train_loop import is_worth_compiling
from study.training_step import TrainingStep
from study.trial_config import TrialConfig
from study.work import EVALUATION_BATCH

REPEATS = 4
EVALUATED_IMAGES = 4 * EVALUATION_BATCH


def measure_trial_seconds(trial: TrialConfig, dataset: Dataset, device: str, largest: int) -> dict[int, float]:
    """Time steps and evaluation in packs of 1, 2, 4, … `largest`, until larger ones are no better.

    Returns the seconds of the whole trial by size, the share of one member; GSC probes are left out.
    """
    train, test = (
        make_device_split(dataset, split, size, device)
        for split, size in (("train", trial.train_size), ("test", trial.test_size))
    )
    evaluated = EVALUATED_IMAGES if train.images.device.type == "cpu" else MOST_IMAGES_ON_GPU
    sample = make_device_split(dataset, "train", min(len(train), evaluated), device)
    steps = trial.epochs * (len(train) // trial.batch_size)
    evaluations = (trial.epochs + 1) * (len(train) + len(test)) / len(sample)
    compiled = is_worth_compiling(trial, len(train), train.images.device.type)
    kernels = make_block_kernels(trial.activation, trial.normalization, compiled, train.images.device.type)

    def measure(size: int) -> float:
        members = [dataclasses.replace(trial, seed=seed) for seed in range(size)]
        network = PackedNetwork(members, train.images.shape[1], len(dataset.classes), device=device)
        optimizer = PackedOptimizer(members, network.stacked, 2 * REPEATS, compiled=compiled)
        step = TrainingStep(network, optimizer, train, kernels, trial.batch_size, trial.precision)
        order = torch.randint(len(train), (2 * REPEATS, *step.rows.shape), device=step.rows.device)
        stepping = [partial(step.run, rows) for rows in order]
        evaluating = [partial(evaluate, network, sample, kernels, trial.precision)] * len(order)
        of_step, of_sample = (_quickest(calls, step.rows.is_cuda) for calls in (stepping, evaluating))
        return (PACK_SECONDS + steps * of_step + evaluations * of_sample) / size

    seconds: dict[int, float] = {}
    size = 1
    while size <= largest:
        seconds[size] = measure(size)
        if train.images.is_cuda:  # else the smaller packs take the room of the next
            gc.collect()
            torch.cuda.empty_cache()
        if size >= 4 and min(seconds[size // 2], seconds[size // 4]) <= ENOUGH * seconds[size]:
            break
        size *= 2
    return seconds


def _quickest(calls: Sequence[Callable[[], object]], is_cuda: bool) -> float:
    """Return the seconds of the quickest call of the later half: what else runs on the machine can only add."""
    times = []
    for call in calls:
        started = time.perf_counter()
        call()
        if is_cuda:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return min(times[len(calls) // 2 :])
