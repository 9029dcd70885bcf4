"""The trials of one pack and a data set → what each trial measured, epoch by epoch.

The story, read top to bottom: put the data on the device, make the network and its optimizer, measure before
training; then for every epoch train, evaluate and measure each member. A lone trial is a pack of one. Members never
influence each other: on one CPU thread a member's numbers are bitwise the same in every pack.
"""

import dataclasses
import functools
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch

from study import run_log_schema as schema
from study.datasets import Dataset
from study.device_split import DeviceSplit, make_device_split
from study.evaluation import evaluate
from study.kernels import make_block_kernels
from study.network import PackedNetwork
from study.optimizers import PackedOptimizer
from study.probe_schedule import is_early_step
from study.probes import NetworkProbe, probe_network
from study.random_streams import make_generator
from study.training_step import TrainingStep
from study.trial_config import TrialConfig

COMPILE_FROM = 100_000
"""Blocks passed in all steps of a trial, from which compiling kernels for it on a GPU is taken to pay.

Reckoned, not measured: some 20 compilations of a second or two, and 50 to 100 µs less for each block."""


@dataclasses.dataclass(frozen=True)
class MemberEpoch:
    """One trial at the end of one epoch (0: before training).

    `metrics` by the names of `run_log_schema.EPOCH_METRICS`, may be non-finite; `layers` are rows of
    `run_log_schema.LAYER_COLUMNS`, the early probes of this epoch included; `diverged`: its parameters, or
    after the last epoch its losses, are no longer finite, and nothing follows. `take_state` copies what `train_pack`
    needs to go on from here; it may be called until the next epoch is asked for.
    """

    trial_id: str
    epoch: int
    metrics: dict[str, float]
    layers: list[tuple[float | None, ...]]
    diverged: bool
    take_state: Callable[[], dict[str, Any]] = dataclasses.field(default=dict, repr=False, compare=False)


def train_pack(
    trials: Sequence[TrialConfig],
    dataset: Dataset,
    device: torch.device | str = "cpu",
    resume_from: Mapping[str, Mapping[str, Any]] | None = None,
) -> Iterator[list[MemberEpoch]]:
    """Train trials of equal `pack_key`; yield after each epoch what every member that has not diverged measured.

    Members that diverge are taken out of the pack, and cost nothing from then on. `resume_from` holds what
    `MemberEpoch.take_state` returned for every trial, by trial_id, all at the end of one epoch: the next one follows.

    Raises ValueError when there are fewer training images than a batch takes.
    """
    config = trials[0]
    train = make_device_split(dataset, "train", config.train_size, device)
    if len(train) < config.batch_size:
        raise ValueError(f"batch_size: {config.batch_size} is more than the {len(train)} training images")
    test = make_device_split(dataset, "test", config.test_size, device)
    steps_per_epoch = len(train) // config.batch_size
    compiled = is_worth_compiling(config, len(train), train.images.device.type)
    kernels = make_block_kernels(config.activation, config.normalization, compiled, train.images.device.type)
    network = PackedNetwork(trials, train.images.shape[1], len(dataset.classes), device=device)
    optimizer = PackedOptimizer(trials, network.stacked, config.epochs * steps_per_epoch, compiled=compiled)
    step = None
    epochs_done = -1  # epoch 0 is the measurement before training
    if resume_from:
        _load_states(network, optimizer, [resume_from[trial.trial_id] for trial in trials])
        epochs_done = optimizer.steps_done // steps_per_epoch

    for epoch in range(epochs_done + 1, config.epochs + 1):
        started = time.perf_counter()
        metrics: dict[str, torch.Tensor] = {}
        probes: list[tuple[int, NetworkProbe]] = []
        if epoch > 0:
            order = epoch_order(trials, len(train), epoch).to(device)
            step = step or TrainingStep(network, optimizer, train, kernels, config.batch_size, config.precision)
            metrics[schema.LEARNING_RATE], metrics[schema.GRADIENT_NORM], probes = train_epoch(
                step, order, functools.partial(probe_members, trials, network, train)
            )
        for split, error, loss in (
            (train, schema.TRAIN_ERROR, schema.TRAIN_LOSS),
            (test, schema.TEST_ERROR, schema.TEST_LOSS),
        ):
            metrics[error], metrics[loss] = evaluate(network, split, kernels, config.precision)
        finite = network.finite_members().cpu()
        if epoch == config.epochs > 0:
            # Earlier, running statistics that have not settled can overflow while training goes well.
            finite &= metrics[schema.TRAIN_LOSS].isfinite() & metrics[schema.TEST_LOSS].isfinite()
        probes.append((optimizer.steps_done, probe_members(trials, network, train, optimizer.steps_done)))
        metrics |= summarise_probe(probes[-1][1])
        seconds = (time.perf_counter() - started) / len(trials)
        metrics[schema.EPOCH_SECONDS] = torch.full((len(trials),), seconds, dtype=torch.float64)

        yield [
            MemberEpoch(
                trial_id=trial.trial_id,
                epoch=epoch,
                metrics={name: values[member].item() for name, values in metrics.items()},
                layers=[row for step, probe in probes for row in layer_rows(probe, member, step, steps_per_epoch)],
                diverged=not finite[member],
                take_state=functools.partial(_take_state, network, optimizer, member),
            )
            for member, trial in enumerate(trials)
        ]
        if not finite.all():
            kept = finite.nonzero().flatten()
            if not len(kept):
                return
            trials = [trials[member] for member in kept.tolist()]
            network.keep(kept)
            optimizer.keep(kept, trials, network.stacked)
            step = None


def _take_state(network: PackedNetwork, optimizer: PackedOptimizer, member: int) -> dict[str, Any]:
    return {"network": network.member_state(member), "optimizer": optimizer.member_state(member)}


def _load_states(
    network: PackedNetwork, optimizer: PackedOptimizer, states: Sequence[Mapping[str, Mapping[str, Any]]]
) -> None:
    """Put back what `_take_state` returned for every member; keeps none of it, for it is large."""
    for member, state in enumerate(states):
        network.load_member_state(member, state["network"])
    optimizer.load_member_states([state["optimizer"] for state in states])


def is_worth_compiling(trial: TrialConfig, image_count: int, device_type: str) -> bool:
    """Say whether a trial's kernels are to be compiled: on the CPU always, for all are compiled in seconds, at once.

    Decided by the trial alone, because compiled kernels may round differently.
    """
    return device_type == "cpu" or trial.epochs * (image_count // trial.batch_size) * trial.depth >= COMPILE_FROM


def train_epoch(
    step: TrainingStep, order: torch.Tensor, probe: Callable[[int], NetworkProbe]
) -> tuple[torch.Tensor, torch.Tensor, list[tuple[int, NetworkProbe]]]:
    """Take one step per batch of `order` [E, steps, B], calling `probe` with the steps done where one is due early.

    Returns learning rate and gradient norm [E] of the last step, and the early probes with their step numbers.
    """
    steps = order.shape[1]
    probes = []
    for rows in order.unbind(1):
        rates = step.optimizer.learning_rates()
        step.run(rows)
        if is_early_step(step.optimizer.steps_done, steps):
            probes.append((step.optimizer.steps_done, probe(step.optimizer.steps_done)))
    return torch.tensor(rates, dtype=torch.float64), step.gradient_norm().cpu(), probes


def epoch_order(trials: Sequence[TrialConfig], image_count: int, epoch: int) -> torch.Tensor:
    """Return the rows of each member's batches in one epoch, [E, steps, B]: every member has an order of its own."""
    batch_size = trials[0].batch_size
    steps = image_count // batch_size
    orders = [torch.randperm(image_count, generator=make_generator(trial.seed, "order", epoch)) for trial in trials]
    return torch.stack([order[: steps * batch_size].view(steps, batch_size) for order in orders])


def probe_members(
    trials: Sequence[TrialConfig], network: PackedNetwork, train: DeviceSplit, steps_done: int
) -> NetworkProbe:
    """Measure all members on the first training images, the same ones all through the study."""
    rows = slice(0, trials[0].probe_size)
    return probe_network(
        network,
        train.standardised(rows, torch.float64),
        train.labels[rows],
        seeds=[trial.seed for trial in trials],
        moment=steps_done,
        probe_vectors=trials[0].probe_vectors,
    )


def summarise_probe(probe: NetworkProbe) -> dict[str, torch.Tensor]:
    """Return the metrics of one probe that have a single value per member, [E] each."""
    return {
        schema.LOG10_GSC_TO_LOGITS: probe.to_logits.log10_gsc[:, 0],
        schema.LOG10_GSC_TO_LOSS: probe.to_loss.log10_gsc[:, 0],
        schema.EXPLOSION_RATE: probe.explosion_rate,
    } | {f"domain/{name}": by_layer.mean(dim=1) for name, by_layer in probe.domain.items()}


def layer_rows(probe: NetworkProbe, member: int, step: int, steps_per_epoch: int) -> list[tuple[float | None, ...]]:
    """Return one member's rows of `run_log_schema.LAYER_COLUMNS`; None stands for what does not exist."""
    epoch = step / steps_per_epoch
    log10_gsc = probe.to_logits.log10_gsc[member].tolist()
    standard_error = probe.to_logits.standard_error[member].tolist()
    domain = [[None, *probe.domain[name][member].tolist()] for name in schema.LAYER_COLUMNS[5:]]
    return [
        (step, epoch, layer, *(_finite_or_none(value) for value in values))
        for layer, values in enumerate(zip(log10_gsc, standard_error, *domain, strict=True))
    ]


def _finite_or_none(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
