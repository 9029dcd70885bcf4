"""Named field values → one checked, frozen `TrialConfig` with a stable identity.

This file is the vocabulary of the project: every field here is a parameter in MLflow, a column in the analysis and an
axis label. It imports neither torch nor ray, so that search spaces stay plain data.
"""

import dataclasses
import functools
import hashlib
import json
import math
import re
from collections.abc import Mapping
from typing import Any

from study.activations import ACTIVATION_TABLE
from study.initialization import INITIALIZATION_TABLE
from study.normalizations import NORMALIZATION_TABLE
from study.one_line_errors import find_nearest

ACTIVATIONS = tuple(ACTIVATION_TABLE)
NORMALIZATIONS = tuple(NORMALIZATION_TABLE)
INITIALIZATIONS = tuple(INITIALIZATION_TABLE)
NAMED_GAINS = ("critical", "he", "lecun", "xavier")
OPTIMIZERS = ("sgd", "adam")
SCHEDULES = ("constant", "cosine", "step")
CLIPPINGS = ("none", "value", "norm")
PRECISIONS = ("fp32", "bf16")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrialConfig:
    """One training run, seed included.

    Raises ValueError, in one line that names the field, the value given and a remedy, when a field is out of range.
    """

    # Network: `study.network` has the recursion.
    depth: int
    """Number of linear layers on the path from input to logits; at least 2."""
    width: int = 100
    """Units in every hidden layer."""
    activation: str = "relu"
    """Nonlinearity φ, one of ACTIVATIONS."""
    normalization: str = "none"
    """N, applied before the activation, without trainable gain or shift; one of NORMALIZATIONS."""
    dilution: float = 0.0
    """k ≥ 0, size of the skip path over the residual path: 0 is the vanilla network, 1 an ordinary residual one."""
    initialization: str = "gaussian"
    """Distribution of the initial weights, one of INITIALIZATIONS."""
    gain: float | str = "critical"
    """Scale of the initial weights: one of NAMED_GAINS, or a positive number (standard deviation · √fan_in)."""

    # Optimizer.
    optimizer: str = "adam"
    """One of OPTIMIZERS."""
    learning_rate: float = 3e-4
    """Step size at the start of the schedule."""
    momentum: float = 0.0
    """Momentum of sgd, in [0, 1); adam has its own (β₁ = 0.9, β₂ = 0.999) and takes none."""
    weight_decay: float = 0.0
    """L2 coefficient, added to the gradient after clipping, as `torch.optim.SGD` and `torch.optim.Adam` do."""
    schedule: str = "constant"
    """Learning rate over training: constant, cosine (to 0), or step (×0.1 after 50% and again after 75%)."""
    clipping: str = "none"
    """Gradient clipping: none, value (each component), or norm (over all parameters of this trial)."""
    clipping_threshold: float = 1.0
    """Largest component (value) or largest norm (norm); unused when clipping is none."""
    layerwise_step_sizes: bool = False
    """sgd only: scale each layer's steps so that the first one changes every layer by the same relative amount."""

    # Data and duration.
    epochs: int = 10
    """Passes over the training images; 0 measures the untrained network alone."""
    batch_size: int = 128
    """Images per step; at least 2. The incomplete last batch of an epoch is left out."""
    train_size: int = 0
    """Training images used, a seeded and stratified subset; 0 means all."""
    test_size: int = 0
    """Test images used, likewise; 0 means all."""
    seed: int = 0
    """Keys the initial weights and the order of the images."""
    precision: str = "fp32"
    """Of matrix products while training and evaluating: fp32, or bf16 (weights and statistics stay fp32)."""

    # Measurement.
    probe_size: int = 128
    """Images in the fixed batch that GSC and the collapsing-domain metrics are measured on."""
    probe_vectors: int = 4
    """Random sign vectors per GSC estimate; at least 2, because their spread is the standard error."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, _as_declared(field.name, field.type, getattr(self, field.name)))
        _check_choice("activation", self.activation, ACTIVATIONS)
        _check_choice("normalization", self.normalization, NORMALIZATIONS)
        _check_choice("initialization", self.initialization, INITIALIZATIONS)
        _check_choice("optimizer", self.optimizer, OPTIMIZERS)
        _check_choice("schedule", self.schedule, SCHEDULES)
        _check_choice("clipping", self.clipping, CLIPPINGS)
        _check_choice("precision", self.precision, PRECISIONS)
        if isinstance(self.gain, str):
            _check_choice("gain", self.gain, NAMED_GAINS, also="a positive number")
        else:
            remedy = "give a number from 1e-100 to 1e100 or one of " + ", ".join(NAMED_GAINS)
            _check(1e-100 <= self.gain <= 1e100, "gain", self.gain, remedy)
        _check(self.depth >= 2, "depth", self.depth, "give at least 2 (an input and an output layer)")
        _check(self.width >= 1, "width", self.width, "give at least 1")
        _check(self.dilution >= 0, "dilution", self.dilution, "give 0 (no skip path) or more")
        _check(self.learning_rate > 0, "learning_rate", self.learning_rate, "give a positive number")
        _check(0 <= self.momentum < 1, "momentum", self.momentum, "give a number from 0 up to, not including, 1")
        _check(self.weight_decay >= 0, "weight_decay", self.weight_decay, "give 0 or more")
        _check(self.clipping_threshold > 0, "clipping_threshold", self.clipping_threshold, "give a positive number")
        _check(self.epochs >= 0, "epochs", self.epochs, "give 0 or more")
        _check(self.batch_size >= 2, "batch_size", self.batch_size, "give at least 2")
        _check(self.train_size >= 0, "train_size", self.train_size, "give 0 (all images) or more")
        _check(self.test_size >= 0, "test_size", self.test_size, "give 0 (all images) or more")
        _check(self.seed >= 0, "seed", self.seed, "give 0 or more")
        _check(self.probe_size >= 2, "probe_size", self.probe_size, "give at least 2")
        _check(self.probe_vectors >= 2, "probe_vectors", self.probe_vectors, "give at least 2")
        if INITIALIZATION_TABLE[self.initialization].starts_linear:
            remedy = f"use 'relu' with initialization={self.initialization!r}, whose halves cancel with no other"
            _check(self.activation == "relu", "activation", self.activation, remedy)
            remedy = f"give an even number with initialization={self.initialization!r}"
            _check(self.width % 2 == 0, "width", self.width, remedy)
        if self.optimizer == "adam":
            _check(self.momentum == 0, "momentum", self.momentum, "leave it at 0 with adam, or use optimizer='sgd'")
            _check(
                not self.layerwise_step_sizes,
                "layerwise_step_sizes",
                self.layerwise_step_sizes,
                "leave it False with adam, or use optimizer='sgd'",
            )

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> "TrialConfig":
        """Build a config from field values; raises ValueError for a field that does not exist or is missing."""
        check_field_names(fields)
        if "depth" not in fields:
            raise ValueError("depth: is missing; give the number of linear layers, at least 2")
        return cls(**fields)

    @functools.cached_property  # asked for many times, in every epoch
    def trial_id(self) -> str:
        """12 hexadecimal digits hashed from every field: equal configs have equal ids, on every machine.

        Fields that were added later count where they differ from their default: earlier ids stay what they were.
        """
        fields = dataclasses.asdict(self)
        for name, default in ADDED_LATER.items():
            if fields[name] == default:
                del fields[name]
        content = json.dumps(fields, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(content.encode()).hexdigest()[:12]

    @property
    def pack_key(self) -> tuple[Any, ...]:
        """All that changes tensor shapes or loop control; trials with equal keys can train in one pack."""
        return tuple(getattr(self, name) for name in PACK_KEY_FIELDS)

    @property
    def name(self) -> str:
        """A label for people: `batch-relu d50 k1 adam lr3e-4 s0`, and what is not usual: `sgd … s0 momentum=0.9`.

        How many images are used is not in it, nor how GSC is measured: studies rarely vary these.
        """
        usual = (
            f"{self.normalization}-{self.activation} d{self.depth} k{self.dilution:g} "
            f"{self.optimizer} lr{short_number(self.learning_rate)} s{self.seed}"
        )
        others = [
            f"{field.name}={value:g}" if isinstance(value, float) else f"{field.name}={value}"
            for field in dataclasses.fields(self)
            if field.name not in NOT_NAMED_APART and (value := getattr(self, field.name)) != field.default
        ]
        return " ".join([usual, *others])


NOT_NAMED_APART = (
    "activation",
    "normalization",
    "depth",
    "dilution",
    "optimizer",
    "learning_rate",
    "seed",
    "train_size",
    "test_size",
    "probe_size",
    "probe_vectors",
)
PACK_KEY_FIELDS = (
    "depth",
    "width",
    "activation",
    "normalization",
    "optimizer",
    "clipping",
    "layerwise_step_sizes",
    "epochs",
    "batch_size",
    "train_size",
    "test_size",
    "probe_size",
    "probe_vectors",
    "precision",
)
ADDED_LATER = {"precision": "fp32"}
"""Fields that trials of earlier versions lack, and what those trials were run with."""
FIELD_NAMES = tuple(field.name for field in dataclasses.fields(TrialConfig))


def check_field_names(names: Mapping[str, Any]) -> None:
    """Raise ValueError for the first name that is no field of `TrialConfig`, with the nearest field as remedy."""
    for name in names:
        if name not in FIELD_NAMES:
            raise ValueError(unknown_name("field", name, FIELD_NAMES))


def unknown_name(kind: str, name: str, known: tuple[str, ...], also: str = "") -> str:
    """One line that says what is unknown, what was probably meant, and what exists."""
    near = find_nearest(name, known)
    guess = f"did you mean {near!r}? " if near else ""
    return f"{kind}: {name!r} does not exist; {guess}choose one of {', '.join(known)}{', or ' + also if also else ''}"


def one_line(error: BaseException) -> str:
    """Return the first line of an error's text that is no mere aside in brackets, or its type where there is none."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # SQLAlchemy's asides about what flushed stand above what went wrong.
    return next((line for line in lines if not re.fullmatch(r"\([^()]*\)", line)), [*lines, type(error).__name__][0])


def short_number(value: float) -> str:
    """Write 0.0003 as `3e-4` and 0.1 as `0.1`, the way people write learning rates."""
    text = f"{value:g}" if value >= 0.01 else f"{value:.6e}"
    if "e" not in text:
        return text
    mantissa, exponent = text.split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def _as_declared(name: str, declared: Any, value: Any) -> Any:
    """Bring a value to the field's type, so that 1 and 1.0 make the same trial; reject what is not one."""
    if declared is bool:
        if not isinstance(value, bool):
            raise ValueError(f"{name}: {value!r} is not a truth value; give True or False")
        return value
    if declared is str or (name == "gain" and isinstance(value, str)):
        if not isinstance(value, str):
            raise ValueError(f"{name}: {value!r} is not text; give a name")
        return value
    if isinstance(value, str):
        raise ValueError(f"{name}: {value!r} is text; give a number without quotes")
    try:
        number = float(value) if not isinstance(value, bool) else math.nan
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{name}: {value!r} is not a finite number; give one")
    if declared is not int:
        return number + 0.0  # turns -0.0 into 0.0, which would hash differently
    if number != int(number):
        raise ValueError(f"{name}: {value!r} is not a whole number; give one")
    return int(value)


def _check_choice(name: str, value: str, known: tuple[str, ...], also: str = "") -> None:
    if value not in known:
        raise ValueError(unknown_name(name, value, known, also))


def _check(holds: bool, name: str, value: object, remedy: str) -> None:
    if not holds:
        raise ValueError(f"{name}: {value!r} is out of range; {remedy}")
