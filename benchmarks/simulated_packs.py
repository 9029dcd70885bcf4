"""A pack of trials → what training them could have yielded, at once: for measuring everything but training."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from unittest import mock

from study import pack_training, sweep
from study import run_log_schema as schema
from study.datasets import Dataset
from study.train_loop import MemberEpoch
from study.trial_config import TrialConfig

NONE = (None, None, None)
real_train_on_worker = sweep.train_on_worker


def train_on_worker(config: dict[str, Any], **parameters: Any) -> None:
    """Take the place of the sweep's own, in its workers; records, checkpoints and reports are the real ones."""
    with mock.patch.object(pack_training, "train_pack", simulate_pack):
        real_train_on_worker(config, **parameters)


def simulate_pack(
    trials: Sequence[TrialConfig],
    dataset: Dataset,
    device: str = "cpu",
    resume_from: Mapping[str, Mapping[str, Any]] | None = None,
) -> Iterator[list[MemberEpoch]]:
    """Yield, epoch by epoch, numbers of the right kind and count."""
    for epoch in range(trials[0].epochs + 1):
        yield [_simulate_member(trial, epoch) for trial in trials]


def _simulate_member(trial: TrialConfig, epoch: int) -> MemberEpoch:
    growth = 0.02 + 0.001 * (trial.seed % 7)
    error = min(0.9, 0.3 + 0.02 * trial.depth) * math.exp(-0.1 * epoch) + 0.001 * (trial.seed % 5)
    metrics = dict.fromkeys(schema.EPOCH_METRICS, error) | {
        schema.LOG10_GSC_TO_LOGITS: growth * trial.depth,
        schema.EXPLOSION_RATE: 10**growth,
    }
    layers: list[tuple[float | None, ...]] = [
        (epoch * 10, float(epoch), layer, growth * (trial.depth - layer), 0.01, *((None, 0.9, 0.4) if layer else NONE))
        for layer in range(trial.depth)
    ]
    return MemberEpoch(trial.trial_id, epoch, metrics, layers, diverged=False)
