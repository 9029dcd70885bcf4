"""Known truth → frames of a study, as loading would have made them: what estimators are tested against.

GSC: ln GSC(s → logits) is a sum of steps per layer. A step is ln r_k plus a seed's own deviation, plus first-order
autocorrelated noise, and every reading has the error of its probes. r_k² = 1 + (r_0² − 1)/(k² + 1).
Failure: P = λ + (1 − 2λ) Φ((ln D − ln D50)/spread), where D50 is given, or the depth with the critical GSC;
or logit P = steepness · (ln GSC − ln of the critical GSC).
Error: chance for a failure; otherwise a floor that is lowest at the optimal k, higher away from the best rate.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable

import numpy as np
import pandas as pd
from scipy import special

from analysis.tidy_frames import TRIAL_COLUMNS, StudyFrames, name_groups
from study import run_log_schema as schema
from study.trial_config import TrialConfig

CHANCE = 0.9
DEFAULTS = {field.name: getattr(TrialConfig(depth=4), field.name) for field in dataclasses.fields(TrialConfig)}


@dataclasses.dataclass(frozen=True)
class Truth:
    """What a study is simulated from; with the defaults for noise, everything is exact."""

    rates: dict[tuple[str, str], float] = dataclasses.field(default_factory=lambda: {("batch", "relu"): 1.2})
    """Explosion rate r_0 per (normalization, activation)."""
    depths: tuple[int, ...] = (4, 6, 10, 16, 25, 40, 63, 100)
    dilutions: tuple[float, ...] = (0.0,)
    optimizers: tuple[str, ...] = ("adam",)
    learning_rates: tuple[float, ...] = (1e-3,)
    seeds: int = 4
    widths: tuple[int, ...] = (100,)
    """Widths change nothing here: each is one more repetition of the same study, in the same frames."""
    seed_spread: float = 0.0
    """Standard deviation over seeds of ln r."""
    layer_noise: float = 0.0
    """Standard deviation of a layer's step of ln GSC."""
    autocorrelation: float = 0.0
    """Of the steps of neighbouring layers."""
    probe_noise: float = 0.0
    """Standard deviation of each reading of ln GSC."""
    trained_factor: float = 1.0
    """What ln r is multiplied by in each epoch."""
    epochs: tuple[float, ...] = (0.0,)
    trainable_depth: float | Callable[[str, float], float] | None = 30.0
    """D50, as a number or of (optimizer, ln r_k); None: the depth of the critical GSC."""
    critical_log10_gsc: float = 3.0
    steepness: float | None = None
    """When given, P(fail) is instead the logistic curve of this slope in ln GSC, at half for the critical GSC."""
    spread: float = 0.0
    """σ of ln D; 0: every trial deeper than D50 fails and no other."""
    lapse: float = 0.0
    best_dilution: float | None = None
    """The k with the lowest error of trainings that succeed; None: the error does not depend on k."""
    error_noise: float = 0.0
    rate_penalty: float = 0.1
    """Error that the second-best learning rate adds, and so on; the first one is the best."""
    rate_depth_factor: float = 1.0
    """What D50 is multiplied by at the second-best learning rate, and so on."""
    linear_fit_error: float = 0.2


def rate_at(rate: float, dilution: float) -> float:
    """Return r_k of the dilution law."""
    return math.sqrt(1 + (rate**2 - 1) / (dilution**2 + 1))


def simulate_study(truth: Truth, seed: int = 0) -> StudyFrames:
    """Return the frames of one simulated study; equal seeds give equal studies."""
    generator = np.random.default_rng(seed)
    networks = _list_networks(truth)
    log10_gsc = _simulate_profiles(truth, networks, generator)
    trials = _list_trials(truth, networks)
    _train(truth, trials, log10_gsc[0], generator)
    layers = _stack_layers(truth, trials, networks, log10_gsc)
    epochs = _stack_epochs(truth, trials, log10_gsc)
    columns = [column for column in TRIAL_COLUMNS if column in trials]
    return StudyFrames(
        name="simulated",
        data="synthetic",
        data_checksum="none",
        chance_error=CHANCE,
        trials=trials[columns].copy(),
        epochs=epochs,
        layers=layers,
        environment={},
        incomplete=[],
    )


def _list_networks(truth: Truth) -> pd.DataFrame:
    """One row per untrained network."""
    product = itertools.product(truth.rates.items(), truth.widths, truth.dilutions, truth.depths, range(truth.seeds))
    rows = [
        (normalization, activation, width, dilution, depth, seed, math.log(rate_at(rate, dilution)))
        for ((normalization, activation), rate), width, dilution, depth, seed in product
    ]
    columns = ["normalization", "activation", "width", "dilution", "depth", "seed", "ln_rate"]
    return pd.DataFrame(rows, columns=columns)


def _simulate_profiles(truth: Truth, networks: pd.DataFrame, generator: np.random.Generator) -> list[np.ndarray]:
    """Return per epoch log10 GSC(layer → logits), [networks, layers 0 … D−1], nan beyond a network's depth."""
    most = max(truth.depths)
    keys = networks[["normalization", "activation", "width", "seed"]].apply(tuple, axis=1)
    codes, unique = pd.factorize(keys)
    deviation = truth.seed_spread * generator.standard_normal(len(unique))[codes]
    noise = generator.standard_normal((len(networks), most))
    steps = np.empty_like(noise)
    steps[:, 0] = noise[:, 0]
    fresh = math.sqrt(1 - truth.autocorrelation**2)
    for layer in range(1, most):
        steps[:, layer] = truth.autocorrelation * steps[:, layer - 1] + fresh * noise[:, layer]
    # Counted from the last stream state, whose own growth to the logits is 0 here.
    distance = networks["depth"].to_numpy()[:, None] - 1 - np.arange(most)
    steps *= truth.layer_noise
    steps += deviation[:, None]
    summed = np.concatenate([np.zeros((len(steps), 1)), np.cumsum(steps, axis=1)], axis=1)
    fluctuation = np.take_along_axis(summed, np.maximum(distance, 0), axis=1)
    profiles = []
    for place in range(len(truth.epochs)):
        rate = networks["ln_rate"].to_numpy()[:, None] * truth.trained_factor**place
        reading = truth.probe_noise * generator.standard_normal(distance.shape)
        profiles.append(np.where(distance >= 0, (rate * distance + fluctuation + reading) / math.log(10), math.nan))
    return profiles


def _list_trials(truth: Truth, networks: pd.DataFrame) -> pd.DataFrame:
    product = list(itertools.product(truth.optimizers, enumerate(truth.learning_rates)))
    parts = [
        networks.assign(_network=np.arange(len(networks)), optimizer=optimizer, learning_rate=rate, _place=place)
        for optimizer, (place, rate) in product
    ]
    trials = pd.concat(parts, ignore_index=True)
    for name, value in DEFAULTS.items():
        if name not in trials:
            trials[name] = str(value) if name == "gain" else value
    numbers = trials.index.astype(str)
    return name_groups(trials.assign(run_id="run" + numbers, trial_id="id" + numbers, name="trial " + numbers))


def _train(truth: Truth, trials: pd.DataFrame, profiles: np.ndarray, generator: np.random.Generator) -> None:
    """Add how each trial ended, in place."""
    ln_rate = trials["ln_rate"].to_numpy()
    log10_gsc = profiles[trials["_network"], 0]
    if truth.trainable_depth is None:
        with np.errstate(divide="ignore"):
            depth50 = truth.critical_log10_gsc * math.log(10) / np.maximum(ln_rate, 0) + 1
    elif callable(truth.trainable_depth):
        depth50 = np.array([truth.trainable_depth(*pair) for pair in zip(trials["optimizer"], ln_rate, strict=True)])
    else:
        depth50 = np.full(len(trials), float(truth.trainable_depth))
    depth50 = depth50 * truth.rate_depth_factor ** trials["_place"].to_numpy()
    distance = np.log(trials["depth"].to_numpy()) - np.log(depth50)
    probability = special.ndtr(distance / truth.spread) if truth.spread else (distance > 0).astype(float)
    probability = truth.lapse + (1 - 2 * truth.lapse) * probability
    if truth.steepness is not None:
        probability = special.expit(truth.steepness * math.log(10) * (log10_gsc - truth.critical_log10_gsc))
    fails = generator.random(len(trials)) < probability
    error = 0.3 + truth.rate_penalty * trials["_place"].to_numpy()
    if truth.best_dilution is not None:
        error = error + 0.1 * np.log((1 + trials["dilution"].to_numpy()) / (1 + truth.best_dilution)) ** 2
    error = error + truth.error_noise * generator.standard_normal(len(trials))
    trials["final_train_error"] = np.where(fails, CHANCE, np.clip(error, 0.0, 0.85))
    trials["final_test_error"] = np.clip(trials["final_train_error"] + 0.05, 0, CHANCE)
    trials["status"] = schema.STATUS_OK
    trials["initial_log10_gsc"] = log10_gsc
    trials["final_log10_gsc"] = log10_gsc


def _stack_layers(
    truth: Truth, trials: pd.DataFrame, networks: pd.DataFrame, profiles: list[np.ndarray]
) -> pd.DataFrame:
    parts = []
    for epoch, profile in zip(truth.epochs, profiles, strict=True):
        by_trial = profile[trials["_network"]]
        rows, layers = np.nonzero(np.isfinite(by_trial))
        parts.append(
            pd.DataFrame(
                {
                    "step": epoch * 100,
                    "epoch": epoch,
                    "layer": layers.astype(float),
                    "log10_gsc": by_trial[rows, layers],
                    "run_id": trials["run_id"].to_numpy()[rows],
                }
            )
        )
    stacked = pd.concat(parts, ignore_index=True)
    constants = {"standard_error": truth.probe_noise, "preactivation_std": 1.0, "sign_diversity": 0.5}
    stacked = stacked.assign(**constants, linear_fit_error=truth.linear_fit_error)
    return stacked[[*schema.LAYER_COLUMNS, "run_id"]]


def _stack_epochs(truth: Truth, trials: pd.DataFrame, profiles: list[np.ndarray]) -> pd.DataFrame:
    parts = []
    for epoch, profile in zip(truth.epochs, profiles, strict=True):
        part = pd.DataFrame({"run_id": trials["run_id"], "epoch": epoch})
        part = part.assign(**dict.fromkeys(schema.EPOCH_METRICS, 0.0))
        part[schema.LOG10_GSC_TO_LOGITS] = profile[trials["_network"], 0]
        part[schema.LINEAR_FIT_ERROR] = truth.linear_fit_error
        part[schema.TRAIN_ERROR] = trials["final_train_error"]
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def repeat_trials(study: StudyFrames, **conditions: object) -> StudyFrames:
    """Return a study in which every trial was trained once more, under other conditions, and ended just the same."""

    def add(table: pd.DataFrame, **fields: object) -> pd.DataFrame:
        return pd.concat([table, table.assign(run_id=table["run_id"] + " again", **fields)], ignore_index=True)

    trials = add(study.trials, trial_id=study.trials["trial_id"] + " again", **conditions)
    return dataclasses.replace(study, trials=name_groups(trials), epochs=add(study.epochs), layers=add(study.layers))


def make_empty(study: StudyFrames) -> StudyFrames:
    """Return the same study with all its columns and no row."""
    return dataclasses.replace(
        study, trials=study.trials.iloc[:0], epochs=study.epochs.iloc[:0], layers=study.layers.iloc[:0]
    )
