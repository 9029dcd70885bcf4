"""Share of training time that GSC probes take at the default schedule.

Probes and training are timed in the same run, so that a noisy machine slows both. Training time is everything else
that a trial does: steps and evaluation of both splits. Times are per trial.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from study import train_loop
from study.datasets import Dataset, load_dataset
from study.processor import prepare_processor
from study.trial_config import TrialConfig

NETWORKS = (("batch", "relu"), ("layer", "tanh"), ("none", "selu"))
DEPTH = 50


def measure_probes(data: str, device: str, epochs: int, members: int) -> Iterator[dict[str, Any]]:
    """Train a pack of each network, with its normalization and activation; yield what its probes cost."""
    dataset = load_dataset(data, Path("data"))
    prepare_processor()
    for normalization, activation in NETWORKS:
        fields = {"depth": DEPTH, "normalization": normalization, "activation": activation, "epochs": epochs}
        trials = [TrialConfig.from_fields({**fields, "seed": seed}) for seed in range(members)]
        yield {
            "network": f"{activation}-{normalization}",
            "depth": DEPTH,
            "epochs": epochs,
            "pack": members,
        } | _measure(trials, dataset, device)


def _measure(trials: list[TrialConfig], dataset: Dataset, device: str) -> dict[str, float]:
    in_probes, probes = 0.0, 0
    probe_members = train_loop.probe_members

    def timed(*arguments: Any) -> Any:
        nonlocal in_probes, probes
        _wait_for(device)
        started = time.perf_counter()
        result = probe_members(*arguments)
        _wait_for(device)
        in_probes += time.perf_counter() - started
        probes += 1
        return result

    started = time.perf_counter()
    with mock.patch.object(train_loop, "probe_members", timed):
        for _ in train_loop.train_pack(trials, dataset, device):
            pass
    training = time.perf_counter() - started - in_probes
    return {
        "probes": probes,
        "milliseconds_per_probe": in_probes / probes / len(trials) * 1e3,
        "probe_seconds": in_probes / len(trials),
        "training_seconds": training / len(trials),
        "ratio": in_probes / training,
    }


def _wait_for(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
