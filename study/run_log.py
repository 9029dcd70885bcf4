"""Trial records → MLflow runs, one per trial; the only file of the study that imports mlflow.

Everything sent is read back from the records, with their timestamps, so that sending again changes nothing.
"""

import contextlib
import dataclasses
import hashlib
import inspect
import json
import logging
import os
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

# Read by mlflow when it is imported: no telemetry, and no minutes of silent retries (this file has its own).
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # two lines per run, amid the progress

import mlflow
import pyarrow as pa
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.utils.uri import add_databricks_profile_info_to_artifact_uri
from pyarrow import parquet

from study import run_log_schema as schema
from study.ledgers import read_planned
from study.probe_schedule import layer_metric_epochs
from study.study_folder import StorageError
from study.tracking_uri import sqlite_path
from study.trial_record import StudyFolder, check_same_data, read_end, read_lines, read_start
from study.ui_view import VIEW_TAG, make_view_tag

METRICS_PER_REQUEST = 900
"""Of the 1000 entries that MLflow takes in one, so that params and tags fit, too."""
LONGEST_NAME = 250
"""Characters of a run's name in MLflow's tables."""
SERVER_FAILURES = (MlflowException, OSError)
"""What MLflow's client raises when a server does not do what it should; requests' own errors are OSErrors."""

HISTORY_TYPES = pa.schema([("epoch", pa.int64()), *((name, pa.float64()) for name in schema.EPOCH_METRICS)])
GSC_TYPES = pa.schema(
    [(name, pa.int64() if name in ("step", "layer") else pa.float64()) for name in schema.LAYER_COLUMNS]
)


def search_once(tracking_uri: str) -> None:
    """Ask a store for something; raises what it, or the library that reaches it, raises. Makes a database's tables."""
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow").setLevel(logging.CRITICAL)  # what goes wrong is raised, and told in one line
    mlflow.MlflowClient(tracking_uri).search_experiments(max_results=1)


def make_tables(tracking_uri: str) -> None:
    """Let MLflow make the tables of a new SQLite database; its default experiment it makes where it opens one."""
    search_once(tracking_uri)
    with contextlib.closing(sqlite3.connect(sqlite_path(tracking_uri))) as database, database:
        database.execute("DELETE FROM experiments")  # which names the folder that MLflow was started in


def tables_version() -> str:
    """Name the tables that are made here: by MLflow's version, and a digest of all else that they depend on."""
    makers = sorted(Path(mlflow.__file__).parent.glob("store/**/*.py"))  # its tables and their migrations
    others = version("sqlalchemy"), version("alembic"), inspect.getsource(make_tables)
    digest = hashlib.sha256(repr(others).encode() + b"".join(path.read_bytes() for path in makers))
    return f"{mlflow.__version__}-{digest.hexdigest()[:16]}"


class RunLog:
    """The MLflow experiment of one study."""

    def __init__(self, tracking_uri: str, folder: StudyFolder, data_tags: Mapping[str, str], epochs: int) -> None:
        """Find or create the experiment.

        Raises ValueError when the study was run on other data before, so that its numbers would not be comparable, or
        when its records lie in another storage, whose driver would take this one's runs for its own.
        """
        self.client = mlflow.MlflowClient(tracking_uri)
        self.tracking_uri = tracking_uri
        self.folder = folder
        experiment = self.client.get_experiment_by_name(folder.name)
        if experiment is None:
            local = (folder.storage / schema.ARTIFACT_FOLDER / folder.name).resolve().as_uri()
            experiment_id = self.client.create_experiment(
                folder.name, artifact_location=local if tracking_uri.startswith("sqlite:") else None
            )
            experiment = self.client.get_experiment(experiment_id)
        if experiment.lifecycle_stage != "active":
            raise ValueError(
                f"name: the experiment {folder.name!r} was deleted in MLflow; restore it or choose another"
            )
        check_same_data(folder.name, experiment.tags, data_tags)
        key = folder.make_key()
        if experiment.tags.get(schema.TAG_STUDY_KEY, key) != key:
            raise ValueError(
                f"name: study {folder.name!r} in this MLflow store has its records in another storage, not in "
                f"{folder.storage} (the key in {folder.path / 'key'} is another one); give that --storage, choose "
                "another --name, or, if those records are gone, rename the experiment in MLflow"
            )
        self.experiment_id = experiment.experiment_id
        # The same ones in every trial of a study, those added later included.
        drawn = experiment.tags.get(schema.TAG_LAYER_EPOCHS)
        self.layer_epochs = [int(epoch) for epoch in drawn.split()] if drawn else layer_metric_epochs(epochs)
        tags = {
            schema.TAG_LAYER_EPOCHS: " ".join(map(str, self.layer_epochs)),
            **data_tags,
            schema.TAG_STUDY_KEY: key,
            schema.TAG_GSC_CONVENTION: schema.GSC_CONVENTION,
            schema.TAG_PLANNED: str(len(read_planned(folder))),
            VIEW_TAG: make_view_tag(self.layer_epochs),
        }
        for key, value in tags.items():
            self.client.set_experiment_tag(self.experiment_id, key, value)

    def find_runs(self) -> dict[str, Run]:
        """Return the run of each trial, a complete one if there is one, of several the record's; drop all others."""
        runs: dict[str, Run] = {}
        for run in list(search_runs(self.client, self.experiment_id)):  # whole: pages shift when runs are deleted
            trial_id = run.data.tags.get(schema.TAG_TRIAL_ID)
            if trial_id is None:
                continue
            rival = runs.setdefault(trial_id, run)
            if rival is not run:
                attempt = self.read_attempt(trial_id)
                kept, dropped = sorted((rival, run), key=lambda one: (not is_complete(one), not is_sent(one, attempt)))
                self.client.delete_run(dropped.info.run_id)
                runs[trial_id] = kept
        return runs

    def complete_trials(self) -> dict[str, str]:
        """Return how the trials ended whose runs are complete and of their record's attempt, if there is a record.

        Empty where the server fails.
        """
        with contextlib.suppress(*SERVER_FAILURES, StorageError):  # who reads that record next tells
            return {
                name: run.data.tags[schema.TAG_STATUS]
                for name, run in self.find_runs().items()
                if is_complete(run) and is_sent(run, self.read_attempt(name))
            }
        return {}

    def read_attempt(self, trial_id: str) -> str | None:
        """Return the attempt that a trial's record is of; None when there is no record."""
        start = read_start(self.folder.record_path(trial_id))
        return None if start is None else start.get("attempt", "")

    def has_whole_record(self, trial_id: str) -> bool:
        """Say whether a trial's record has ended, well or not."""
        return bool(read_end(self.folder.record_path(trial_id)))

    def begin_transmission(self, trial_id: str, may_have_runs: bool = True) -> "Transmission":
        """Prepare to send a trial's record; runs that it has already will be replaced, if it may have any."""
        return Transmission(self, trial_id, may_have_runs)

    def drop_runs(self, trial_id: str) -> None:
        """Delete whatever runs a trial has: of earlier attempts, or made by a request whose answer was lost."""
        for run in list(search_runs(self.client, self.experiment_id, f"tags.{schema.TAG_TRIAL_ID} = '{trial_id}'")):
            self.client.delete_run(run.info.run_id)

    def log_artifacts(self, artifact_uri: str, folder: str) -> None:
        """Send the files of a folder; the client's own method would first read the whole run, to learn where to."""
        place = add_databricks_profile_info_to_artifact_uri(artifact_uri, self.tracking_uri)
        get_artifact_repository(place, tracking_uri=self.tracking_uri).log_artifacts(folder)


def search_runs(client: mlflow.MlflowClient, experiment_id: str, filter_string: str = "") -> Iterator[Run]:
    """Yield the active runs of an experiment, page by page, the newest first."""
    token = None
    while True:
        page = client.search_runs([experiment_id], filter_string, max_results=1000, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def is_complete(run: Run) -> bool:
    """Say whether a run holds a trial that ended, with everything that was measured."""
    return schema.is_complete(run.info.status, run.data.tags)


def is_sent(run: Run, attempt: str | None) -> bool:
    """Say whether a run holds all of the ended record of this attempt; None: of a record that is lost.

    A run of another attempt is of another training, which numbers and code may tell apart. One that ended well counts
    where it is all that there is of its trial, or says no attempt.
    """
    sent = run.data.tags.get(schema.TAG_ATTEMPT)
    if attempt is None or sent is None:
        return is_complete(run)
    ended = run.info.status in ("FINISHED", "FAILED") and schema.TAG_STATUS in run.data.tags
    return ended and sent == attempt


@dataclasses.dataclass
class _Request:
    """What is to be sent at once, and how far into the record that is."""

    params: list[Param] = dataclasses.field(default_factory=list)
    metrics: list[Metric] = dataclasses.field(default_factory=list)
    tags: list[RunTag] = dataclasses.field(default_factory=list)
    until: int = 0


class Transmission:
    """How far one trial's record has been sent into a run of its own."""

    def __init__(self, run_log: RunLog, trial_id: str, may_have_runs: bool) -> None:
        self.log, self.client = run_log, run_log.client
        self.may_have_runs = may_have_runs
        self.path = run_log.folder.record_path(trial_id)
        self.run_id = self.artifact_uri = ""
        self.offset = 0
        self.attempt: str | None = None
        self.ended = False
        self.last_metrics: dict[str, float] = {}

    def mark_interrupted(self) -> None:
        """Show a run whose trial did not end as killed, not as running for ever."""
        if self.run_id and not self.ended:
            self.client.set_terminated(self.run_id, status="KILLED")

    def advance(self) -> None:
        """Send the lines that are new. A line counts as sent once everything of it was accepted."""
        start = read_start(self.path) or {}
        if start.get("attempt") != self.attempt:
            # The first attempt, or the record was written anew because a lost worker's pack was started again.
            self.attempt, self.run_id, self.offset, self.ended = start.get("attempt"), "", 0, False
        if self.ended:
            return
        try:
            self._send_lines()
        except MlflowException:
            if self._was_deleted():
                self.run_id, self.offset = "", 0
            raise

    def _send_lines(self) -> None:
        """Send many lines in one request."""
        request = _Request()
        for line, offset in read_lines(self.path, self.offset):
            if line.get("attempt") != self.attempt:
                return  # replaced since its start was read; the next call begins with the new one
            if line["kind"] == "start":
                self._create_run(line)
                request.params += [Param(name, str(value)) for name, value in line["config"].items()]
            elif line["kind"] == "epoch":
                request.metrics += self._describe_epoch(line)
            else:
                self._end(line, request)
                self.offset = offset
                return
            request.until = offset
            if len(request.metrics) >= METRICS_PER_REQUEST:
                self._log(request)
                request = _Request()
        self._log(request)

    def _was_deleted(self) -> bool:
        """Say whether somebody has deleted the run meanwhile; the next attempt then makes a new one."""
        try:
            return bool(self.run_id) and self.client.get_run(self.run_id).info.lifecycle_stage == "deleted"
        except MlflowException as error:
            return error.error_code == "RESOURCE_DOES_NOT_EXIST"

    def _create_run(self, line: dict[str, Any]) -> None:
        if self.run_id:
            return
        if self.may_have_runs:
            self.log.drop_runs(line["trial_id"])
        self.may_have_runs = True  # from now on, also one whose creation was not answered
        tags = {
            schema.TAG_TRIAL_ID: line["trial_id"],
            schema.TAG_STUDY: self.log.folder.name,
            schema.TAG_PACK_ID: line["pack_id"],
            schema.TAG_ATTEMPT: self.attempt or "",
            schema.TAG_GSC_CONVENTION: schema.GSC_CONVENTION,
            **line["environment"],
            **line.get("pack", {}),
        }
        run = self.client.create_run(
            self.log.experiment_id, start_time=line["time_ms"], tags=tags, run_name=line["name"][:LONGEST_NAME]
        )
        self.run_id, self.artifact_uri = run.info.run_id, run.info.artifact_uri

    def _describe_epoch(self, line: dict[str, Any]) -> list[Metric]:
        time_ms, epoch = line["time_ms"], line["epoch"]
        metrics = [Metric(name, value, time_ms, epoch) for name, value in line["metrics"].items()]
        if epoch in self.log.layer_epochs:
            last_step = line["layers"][-1][0]
            metrics += [
                Metric(schema.layer_metric(epoch), log10_gsc, time_ms, layer)
                for step, _, layer, log10_gsc, *_ in line["layers"]
                if step == last_step and log10_gsc is not None
            ]
        self.last_metrics = line["metrics"]
        return metrics

    def _end(self, line: dict[str, Any], request: _Request) -> None:
        """Send the tables and a last request, then end the run: who sees its status can rely on the rest."""
        status = line["status"]
        if status == schema.STATUS_OK:
            request.metrics += [
                Metric(final, self.last_metrics[source], line["time_ms"], 0)
                for final, source in schema.FINAL_METRICS.items()
                if source in self.last_metrics
            ]
        request.tags.append(RunTag(schema.TAG_STATUS, status))
        if line["error"]:
            request.tags.append(RunTag(schema.TAG_ERROR, line["error"]))
        self._log_tables()
        self._log(request)
        ended = "FAILED" if status == schema.STATUS_FAILED else "FINISHED"
        self.client.set_terminated(self.run_id, status=ended, end_time=line["time_ms"])
        self.ended = True

    def _log(self, request: _Request) -> None:
        """Send a request, in several if it is too large: tags with the last one, for they say that all is there."""
        rest = request.metrics
        while len(rest) > METRICS_PER_REQUEST:
            self.client.log_batch(self.run_id, metrics=rest[:METRICS_PER_REQUEST])
            rest = rest[METRICS_PER_REQUEST:]
        if rest or request.params or request.tags:
            self.client.log_batch(self.run_id, metrics=rest, params=request.params, tags=request.tags)
        self.offset = max(self.offset, request.until)

    def _log_tables(self) -> None:
        """Write the complete tables from the record and send them as artifacts."""
        lines = [line for line, _ in read_lines(self.path)]
        epochs = [line for line in lines if line["kind"] == "epoch"]
        history = [{"epoch": line["epoch"], **line["metrics"]} for line in epochs]
        gsc = [dict(zip(schema.LAYER_COLUMNS, row, strict=True)) for line in epochs for row in line["layers"]]
        with tempfile.TemporaryDirectory() as folder:
            parquet.write_table(pa.Table.from_pylist(history, HISTORY_TYPES), Path(folder) / schema.HISTORY_TABLE)
            parquet.write_table(pa.Table.from_pylist(gsc, GSC_TYPES), Path(folder) / schema.GSC_TABLE)
            (Path(folder) / schema.CONFIG_FILE).write_text(json.dumps(lines[0]["config"], indent=2) + "\n")
            self.log.log_artifacts(self.artifact_uri, folder)
