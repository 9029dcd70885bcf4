"""Every name that the study writes to MLflow and the analysis reads, in one place.

Params are the fields of `TrialConfig`. Logs of GSC are base 10, GSC itself unsquared.
"""

import dataclasses
import math
import re
from collections.abc import Mapping
from pathlib import Path

from study.trial_config import ADDED_LATER, TrialConfig

TRAIN_ERROR = "train/error"
TRAIN_LOSS = "train/loss"
TEST_ERROR = "test/error"
TEST_LOSS = "test/loss"
LOG10_GSC_TO_LOGITS = "gsc/log10_input_to_logits"
LOG10_GSC_TO_LOSS = "gsc/log10_input_to_loss"
EXPLOSION_RATE = "gsc/explosion_rate"
PREACTIVATION_STD = "domain/preactivation_std"
SIGN_DIVERSITY = "domain/sign_diversity"
LINEAR_FIT_ERROR = "domain/linear_fit_error"
GRADIENT_NORM = "optim/gradient_norm"
LEARNING_RATE = "optim/learning_rate"
EPOCH_SECONDS = "time/epoch_seconds"

EPOCH_METRICS = {
    TRAIN_ERROR: "classification error on all training images in use, evaluation mode",
    TRAIN_LOSS: "mean cross-entropy on the same, nats",
    TEST_ERROR: "classification error on all test images in use, evaluation mode",
    TEST_LOSS: "mean cross-entropy on the same, nats",
    LOG10_GSC_TO_LOGITS: "log10 of GSC from the input to the logits",
    LOG10_GSC_TO_LOSS: "log10 of GSC from the input to the per-example losses",
    EXPLOSION_RATE: "growth of GSC per linear layer, a plain factor",
    PREACTIVATION_STD: "mean over layers; 1 no collapse, 0 collapsed",
    SIGN_DIVERSITY: "mean over layers; 0.5 balanced signs, 0 collapsed",
    LINEAR_FIT_ERROR: "mean over layers; 0 pseudo-linear",
    GRADIENT_NORM: "norm over all parameters before clipping, at the last step of the epoch",
    LEARNING_RATE: "learning rate at the last step of the epoch",
    EPOCH_SECONDS: "this trial's share of its pack's wall-clock time, measurements included, seconds",
}
"""Metrics with step = epoch (0: before training)."""

PARAM_TYPES: dict[str, type] = {
    field.name: field.type if isinstance(field.type, type) else str for field in dataclasses.fields(TrialConfig)
}
"""Params and the types of their values; `gain` may be a name or a number and is read as text."""

PARAMS_ADDED_LATER = {name: str(value) for name, value in ADDED_LATER.items()}
"""Params that runs of earlier versions lack, and what those runs were made with."""

FINAL_TRAIN_ERROR = "final/train_error"
FINAL_TEST_ERROR = "final/test_error"
FINAL_LOG10_GSC = "final/log10_gsc"
FINAL_METRICS = {
    FINAL_TRAIN_ERROR: TRAIN_ERROR,
    FINAL_TEST_ERROR: TEST_ERROR,
    FINAL_LOG10_GSC: LOG10_GSC_TO_LOGITS,
}
"""Metrics logged once, at step 0, and the metric that each repeats from the last epoch (not for diverged trials)."""

LAYER_COLUMNS = (
    "step",
    "epoch",
    "layer",
    "log10_gsc",
    "standard_error",
    "preactivation_std",
    "sign_diversity",
    "linear_fit_error",
)
"""Columns of gsc.parquet: optimizer steps done, the same in epochs (a fraction for the early ones), state s = 0
(input) … depth − 1, log10 GSC(s → logits) and its standard error, and the metrics of nonlinearity layer s (none at 0).
"""

GSC_TABLE = "gsc.parquet"
HISTORY_TABLE = "history.parquet"
CONFIG_FILE = "config.json"
GSC_FIGURE = "gsc.png"

TAG_TRIAL_ID = "trial_id"
TAG_STUDY_KEY = "study_key"
TAG_LAYER_EPOCHS = "layer_epochs"
TAG_PLANNED = "planned_trials"
TAG_STUDY = "study"
TAG_PACK_ID = "pack_id"
TAG_PACK_SIZE = "pack_size"
TAG_PACK_CHOICE = "pack_choice"
TAG_ATTEMPT = "attempt"
TAG_STATUS = "status"
TAG_ERROR = "error"
TAG_DATA = "data"
TAG_DATA_CHECKSUM = "data_checksum"
TAG_CHANCE_ERROR = "chance_error"
USUAL_CHANCE_ERROR = 0.9
"""Of ten classes, as CIFAR-10 has them: where nothing says another."""
TAG_DEVICE = "device"
TAG_FP32_PRODUCTS = "fp32_products"
TAG_BF16_PRODUCTS = "bf16_products"
TAG_COMPILER = "kernel_compiler"
TAG_CODE_REVISION = "code_revision"
TAG_GSC_CONVENTION = "gsc_convention"
GSC_CONVENTION = "unsquared"

STATUS_OK = "ok"
STATUS_DIVERGED = "diverged"
STATUS_FAILED = "failed"
ENDED_STATUSES = (STATUS_OK, STATUS_DIVERGED)
"""Statuses of trials that need not be run again."""


def is_complete(run_status: str, tags: Mapping[str, str]) -> bool:
    """Say whether a run of this status, MLflow's own, holds a trial that ended, with everything that was measured."""
    return run_status == "FINISHED" and tags.get(TAG_STATUS) in ENDED_STATUSES


DEFAULT_STORAGE = Path("studies")
DATABASE_FILE = "mlflow.db"
ARTIFACT_FOLDER = "mlartifacts"
RESERVED_NAMES = (DATABASE_FILE, ARTIFACT_FOLDER, "Default")
"""What lies in the storage beside the folders of studies, and MLflow's own experiment."""
NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def layer_metric(epoch: int) -> str:
    """Name of the metric that draws log10 GSC(s → logits) with step = layer s, at one epoch."""
    return f"gsc_by_layer/epoch_{epoch:03d}"


def finite(metrics: Mapping[str, float | None]) -> dict[str, float]:
    """Keep what is a finite number: others poison MLflow's sorting and plots."""
    return {name: value for name, value in metrics.items() if value is not None and math.isfinite(value)}


def check_study_name(name: str) -> str:
    """Return a name that is safe as a folder and an experiment; raises ValueError otherwise."""
    if name in RESERVED_NAMES:
        raise ValueError(f"name: {name!r} is taken by the storage or by MLflow; choose another")
    if not NAME_PATTERN.fullmatch(name):
        raise ValueError(f"name: {name!r} is unusable; give letters, digits, '.', '_' or '-', a letter or digit first")
    return name
