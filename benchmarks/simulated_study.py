"""Trials → what they might have measured, with known truth, and a store (records, sqlite, files) that holds it.

Nothing is trained. Records and runs are written by the study's own code, so that a simulated store has every file, tag
and metric of a real one.

    r_k² = 1 + (r_0² − 1)/(k² + 1)        explosion rate per layer, r_0 from RATES
    D50  = 10 / ln r_k, at most 400       half of the range of errors is lost at this depth
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy.stats import norm

from study import run_log_schema as schema
from study.run_sender import RunSender
from study.tracking import Connection
from study.tracking_uri import home_tracking_uri
from study.train_loop import MemberEpoch
from study.trial_config import TrialConfig
from study.trial_record import StudyFolder, TrialRecord, end_as_failed

CHANCE = 0.9
RATES = {"batch-relu": 1.211, "batch-tanh": 1.085, "layer-tanh": 1.085, "none-tanh": 1.05, "layer-relu": 1.004}
"""r_0 by network; any other has 1.01."""
BEST_LEARNING_RATE = {"adam": 1e-3, "sgd": 3e-2}
SPREAD_OVER_SEEDS = 0.004
"""Standard deviation of ln r over seeds."""
UNFINISHED = "unfinished"


def true_explosion_rate(trial: TrialConfig) -> float:
    """Return r_k of a trial's network."""
    squared = RATES.get(f"{trial.normalization}-{trial.activation}", 1.01) ** 2
    return math.sqrt(1 + (squared - 1) / (trial.dilution**2 + 1))


def true_error(trial: TrialConfig) -> float:
    """Return the final training error without noise: it rises to chance around D50, and with too much dilution."""
    half_depth = min(10 / math.log(true_explosion_rate(trial)), 400)
    lost = norm.cdf((math.log(trial.depth) - math.log(half_depth)) / 0.35)
    off = math.log10(trial.learning_rate / BEST_LEARNING_RATE[trial.optimizer])
    floor = 0.35 + 0.08 * off**2 + 0.03 * trial.dilution / math.log(trial.depth)
    return float(floor + (CHANCE - floor) * lost)


def simulate_trial(trial: TrialConfig, diverges: bool = False) -> Iterator[MemberEpoch]:
    """Yield what a trial measures, epoch by epoch; one that diverges stops in its second epoch."""
    generator = np.random.default_rng(int(trial.trial_id, 16))
    by_seed = np.random.default_rng([trial.seed, trial.depth, int(trial.dilution * 8), len(trial.activation)])
    growth = math.log10(true_explosion_rate(trial)) + SPREAD_OVER_SEEDS / math.log(10) * by_seed.standard_normal()
    noise = 0.01 * by_seed.standard_normal(trial.depth)
    last_error = min(max(true_error(trial) + 0.02 * generator.standard_normal(), 0.0), CHANCE + 0.02)
    for epoch in range(trial.epochs + 1):
        remaining = math.exp(-epoch / max(trial.epochs, 1) * 4)
        error = last_error + (CHANCE - last_error) * (remaining if epoch < trial.epochs else 0.0)
        # Training slows the explosion of networks that learn.
        at_epoch = growth * (1 - 0.4 * (1 - remaining) * (CHANCE - last_error))
        gsc = at_epoch * np.arange(trial.depth, 0, -1) + noise
        diverged = diverges and epoch == min(2, trial.epochs)
        yield MemberEpoch(trial.trial_id, epoch, _metrics(trial, error, gsc), _layers(trial, epoch, gsc), diverged)
        if diverged:
            return


def _metrics(trial: TrialConfig, error: float, gsc: np.ndarray) -> dict[str, float]:
    linear = 0.3 / (1 + trial.dilution**2)
    return {
        schema.TRAIN_ERROR: error,
        schema.TRAIN_LOSS: 2.3 * error / CHANCE,
        schema.TEST_ERROR: min(error + 0.05 * (CHANCE - error), CHANCE),
        schema.TEST_LOSS: 2.4 * error / CHANCE,
        schema.LOG10_GSC_TO_LOGITS: float(gsc[0]),
        schema.LOG10_GSC_TO_LOSS: float(gsc[0]) - 0.1,
        schema.EXPLOSION_RATE: float(10 ** ((gsc[1] - gsc[-1]) / max(len(gsc) - 2, 1))) if len(gsc) > 2 else 1.0,
        schema.PREACTIVATION_STD: 0.9,
        schema.SIGN_DIVERSITY: 0.45,
        schema.LINEAR_FIT_ERROR: linear,
        schema.GRADIENT_NORM: 1.0,
        schema.LEARNING_RATE: trial.learning_rate,
        schema.EPOCH_SECONDS: 1.5,
    }


def _layers(trial: TrialConfig, epoch: int, gsc: np.ndarray) -> list[tuple[float | None, ...]]:
    linear = 0.3 / (1 + trial.dilution**2)
    return [
        (epoch * 100, float(epoch), layer, value, 0.01, *((0.9, 0.45, linear) if layer else (None, None, None)))
        for layer, value in enumerate(gsc.tolist())
    ]


def write_records(folder: StudyFolder, trials: Sequence[TrialConfig], statuses: Mapping[str, str]) -> None:
    """Write the trials' records. `statuses` by trial_id; ok where there is none; UNFINISHED ones have no end yet."""
    environment = {schema.TAG_CODE_REVISION: "simulated", schema.TAG_DEVICE: "none", "version.torch": "none"}
    for trial in trials:
        status = statuses.get(trial.trial_id, schema.STATUS_OK)
        path = folder.record_path(trial.trial_id)
        if status == schema.STATUS_FAILED:
            end_as_failed(path, trial, "simulated", environment, "simulated failure")
            continue
        record = TrialRecord(path, trial, "simulated", environment)
        for measured in simulate_trial(trial, diverges=status == schema.STATUS_DIVERGED):
            record.add_epoch(measured)
            if status == UNFINISHED:
                break
        else:
            record.end(status)


def write_store(
    storage: Path,
    name: str,
    trials: Sequence[TrialConfig],
    statuses: Mapping[str, str] | None = None,
    data: str = "synthetic",
) -> str:
    """Write a study into a storage folder as a finished (or half-finished) one; return the tracking URI.

    `data` is what the study says that its images are.
    """
    folder = StudyFolder(storage, name)
    folder.create()
    tracking_uri = home_tracking_uri(storage)
    tags = {
        schema.TAG_DATA: data,
        schema.TAG_DATA_CHECKSUM: "simulated",
        schema.TAG_CHANCE_ERROR: f"{CHANCE:g}",
    }
    epochs = max((trial.epochs for trial in trials), default=1)
    run_log = Connection(tracking_uri, folder, tags, epochs, at_once=False).open()
    write_records(folder, trials, statuses or {})
    with RunSender(lambda: run_log, tracking_uri) as sender:
        sender.send([trial.trial_id for trial in trials])
    if sender.unsent:
        raise OSError(f"{len(sender.unsent)} simulated trials could not be sent: {sender.problem}")
    return tracking_uri
