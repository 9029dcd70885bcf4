"""Raw runs → frames with declared, checked columns: trials, epochs, layers.

`trials` has one row per run, diverged, failed and unfinished ones included; `epochs` and `layers` are joined to it by
`run_id` and hold what was measured, whatever happened later.
"""

import dataclasses
import math

import numpy as np
import pandas as pd

from study import run_log_schema as schema

UNFINISHED = "unfinished"
ARCHITECTURE = ["normalization", "activation", "initialization", "gain", "width", "dilution"]
"""What the network is at every depth; with a depth and a seed it determines the initial weights."""

UNTRAINED = [*ARCHITECTURE, "probe_size"]
"""What measurements before training depend on, beside depth and seed: batch normalization makes GSC one of a batch."""

OWN_PLACES = ("depth", "dilution", "optimizer", "learning_rate", "seed", "normalization", "activation")

CONDITIONS = [name for name in schema.PARAM_TYPES if name not in (*ARCHITECTURE, *OWN_PLACES)]
"""All else, as epochs and precision: trials that differ in these alone are of one network, and not independent."""

ORIGIN_TAGS = (schema.TAG_CODE_REVISION, schema.TAG_DEVICE)

EPOCH_COLUMNS = ("epoch", *schema.EPOCH_METRICS)

FEWEST_TRIALS = 10
"""Of each optimizer and conditions, on average, where these are compared; with fewer, conditions are sampled."""

STATUSES = (schema.STATUS_OK, schema.STATUS_DIVERGED, schema.STATUS_FAILED, UNFINISHED)

TRIAL_COLUMNS = {
    "run_id": "MLflow's id",
    "trial_id": "the study's id, unique",
    "name": "short label",
    "status": "ok, diverged, failed or unfinished",
    **dict.fromkeys(schema.PARAM_TYPES, "parameter"),
    "network": "normalization-activation, as in batch-relu, and whatever else differs within the study",
    "untrained": "the same without what only matters in training",
    "architecture": "the same without all CONDITIONS: what is left is the network itself",
    "conditions": "those CONDITIONS that differ, as in epochs=5; empty where none does, and where they are sampled",
    "final_train_error": "after the last epoch; chance where diverged; missing where failed, unfinished or not trained",
    "final_test_error": "likewise",
    "initial_log10_gsc": "log10 GSC(input → logits) before training",
    "final_log10_gsc": "the same at the last epoch that was measured",
}


@dataclasses.dataclass(frozen=True)
class StudyFrames:
    """A study in memory.

    `trials` has TRIAL_COLUMNS; `epochs` run_id, epoch and the metrics of the schema; `layers` run_id and the schema's
    LAYER_COLUMNS; `environment` says by tag what code, libraries and devices the runs came from; `incomplete` names
    the runs whose tables are lost and were made up for from metrics; `planned` is how many trials the study has, those
    included that MLflow does not hold (0: not known).
    """

    name: str
    data: str
    data_checksum: str
    chance_error: float
    trials: pd.DataFrame
    epochs: pd.DataFrame
    layers: pd.DataFrame
    environment: dict[str, str]
    incomplete: list[str]
    planned: int = 0

    @property
    def is_synthetic(self) -> bool:
        """Whether the images are synthetic, so that errors say nothing about real ones."""
        return self.data.startswith("synthetic")


def make_frames(
    name: str,
    experiment_tags: dict[str, str],
    trial_rows: list[dict[str, str]],
    histories: dict[str, pd.DataFrame],
    profiles: dict[str, pd.DataFrame],
    incomplete: list[str] | None = None,
) -> StudyFrames:
    """Assemble the frames; raises ValueError for a run whose parameters or tables lack what the schema declares."""
    chance_error = float(experiment_tags.get(schema.TAG_CHANCE_ERROR, schema.USUAL_CHANCE_ERROR))
    # The study records finite numbers alone; other hands may have logged to these runs, too.
    epochs = _stack(histories, list(EPOCH_COLUMNS)).replace([math.inf, -math.inf], math.nan)
    layers = _stack(profiles, list(schema.LAYER_COLUMNS)).replace([math.inf, -math.inf], math.nan)
    trials = pd.DataFrame([_parse_trial(row) for row in trial_rows])
    _check_trials(trials)
    trials = name_groups(trials)
    first = epochs[epochs["epoch"] == 0].set_index("run_id")
    last = epochs.sort_values("epoch").groupby("run_id").tail(1).set_index("run_id")
    for column, metric in (
        ("final_train_error", schema.TRAIN_ERROR),
        ("final_test_error", schema.TEST_ERROR),
    ):
        measured = trials["run_id"].map(last[metric]).astype(float)
        trials[column] = np.select(
            [trials["epochs"] == 0, trials["status"] == schema.STATUS_OK, trials["status"] == schema.STATUS_DIVERGED],
            [np.full(len(trials), np.nan), measured, np.full(len(trials), chance_error)],
            default=np.nan,
        )
    trials["initial_log10_gsc"] = trials["run_id"].map(first[schema.LOG10_GSC_TO_LOGITS]).astype(float)
    trials["final_log10_gsc"] = trials["run_id"].map(last[schema.LOG10_GSC_TO_LOGITS]).astype(float)
    return StudyFrames(
        name=name,
        data=experiment_tags.get(schema.TAG_DATA, "unknown"),
        data_checksum=experiment_tags.get(schema.TAG_DATA_CHECKSUM, "unknown"),
        chance_error=chance_error,
        trials=trials[list(TRIAL_COLUMNS)].sort_values("name", ignore_index=True),
        epochs=epochs,
        layers=layers,
        environment=_join_tags(trial_rows),
        incomplete=sorted(incomplete or []),
        planned=int(experiment_tags.get(schema.TAG_PLANNED, 0)),
    )


def _join_tags(trial_rows: list[dict[str, str]]) -> dict[str, str]:
    """Return the tags that say where the runs came from, all values of each in one text."""
    names = sorted({name for row in trial_rows for name in row if name in ORIGIN_TAGS or name.startswith("version.")})
    return {name: ", ".join(sorted({row[name] for row in trial_rows if name in row})) for name in names}


def name_groups(trials: pd.DataFrame) -> pd.DataFrame:
    """Return trials with the names that they are grouped by: network, untrained, architecture and conditions.

    A network is told apart by all that differs, because results under different conditions are never averaged as if
    they were those of seeds. What is left out of fits, or counted as independent, is an architecture.
    """
    base = trials["normalization"] + "-" + trials["activation"]
    architecture, conditions = base + _write_differences(trials, ARCHITECTURE), _write_differences(trials, CONDITIONS)
    compared = len(trials) >= FEWEST_TRIALS * (trials["optimizer"] + conditions).nunique()
    return trials.assign(
        network=architecture + conditions,
        untrained=base + _write_differences(trials, UNTRAINED),
        architecture=architecture,
        conditions=conditions.str.strip() if compared else "",
    )


def _write_differences(trials: pd.DataFrame, fields: list[str]) -> pd.Series:
    """Write those of the fields that differ, as in ` width=50 epochs=5`.

    Depth, dilution, optimizer, learning rate and seed have places of their own in tables and figures. A field of the
    training that differs between optimizers alone (momentum, say) belongs to the optimizer; networks that do are two.
    """
    written = pd.Series("", index=trials.index)
    for field in schema.PARAM_TYPES:
        if field not in fields or field in OWN_PLACES:
            continue
        of_optimizers = trials.groupby("optimizer")[field].nunique().max()
        if (trials[field].nunique() if field in UNTRAINED else of_optimizers) > 1:
            written = written + f" {field}=" + trials[field].map(write_value)
    return written


def write_value(value: object) -> str:
    """Write a parameter's value for people."""
    return f"{value:g}" if isinstance(value, (int, float)) and not isinstance(value, bool) else str(value)


def _parse_trial(row: dict[str, str]) -> dict[str, object]:
    parsed: dict[str, object] = {
        "run_id": row["run_id"],
        "trial_id": row[schema.TAG_TRIAL_ID],
        "name": row["name"],
        "status": row.get(schema.TAG_STATUS, UNFINISHED),
    }
    row = schema.PARAMS_ADDED_LATER | row
    for name, kind in schema.PARAM_TYPES.items():
        if name not in row:
            raise ValueError(f"study: run {row['name']} ({row['run_id']}) lacks parameter {name!r}; delete that run")
        try:
            parsed[name] = row[name] == "True" if kind is bool else kind(row[name])
        except ValueError:
            raise ValueError(
                f"study: parameter {name!r} of run {row['name']} ({row['run_id']}) is {row[name]!r}, not "
                f"{kind.__name__}; delete that run"
            ) from None
    return parsed


def _check_trials(trials: pd.DataFrame) -> None:
    """Raise ValueError when two rows are one trial, or a run ended in a way that nobody declared."""
    for column in ("run_id", "trial_id"):
        repeated = trials.loc[trials[column].duplicated(), "name"]
        if len(repeated):
            raise ValueError(f"study: two runs have the {column} of {repeated.iloc[0]}; delete one of them")
    unknown = trials[~trials["status"].isin(STATUSES)]
    if len(unknown):
        name, status = unknown[["name", "status"]].iloc[0]
        raise ValueError(f"study: run {name} has status {status!r}, not one of {', '.join(STATUSES)}; delete that run")


def _stack(tables: dict[str, pd.DataFrame], columns: list[str]) -> pd.DataFrame:
    """Put the runs' tables below each other, with their run_id."""
    for run_id, table in tables.items():
        missing = [column for column in columns if column not in table.columns]
        if missing:
            raise ValueError(f"study: a table of run {run_id} lacks column {missing[0]!r}; delete that run")
    filled = {run_id: table for run_id, table in tables.items() if len(table)}
    if not filled:
        return pd.DataFrame({column: pd.Series(dtype=float) for column in columns} | {"run_id": pd.Series(dtype=str)})
    stacked = pd.concat(filled.values(), ignore_index=True)[columns].astype(float)
    rows = np.repeat(list(filled), [len(table) for table in filled.values()])
    return stacked.assign(run_id=pd.Series(rows, dtype=str))
