"""A study's name → its runs in MLflow as tidy frames.

Reads the parquet artifacts, which are complete, in threads, and those of an ended run once (`tables_cache`). Metrics
are for browsing: their history is asked for only where an artifact is missing.
"""

import contextlib
import dataclasses
import gc
import logging
import os
import re
import socket
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import url2pathname

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # two lines per run, amid the progress

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from mlflow.entities import Experiment, Run, ViewType
from mlflow.exceptions import MlflowException

from analysis.tables_cache import RunKey, cache_path, read_cache, write_cache
from analysis.tidy_frames import EPOCH_COLUMNS, StudyFrames, make_frames
from study import run_log_schema as schema
from study.tracking_uri import default_tracking_uri, sqlite_path, without_secrets

DOWNLOAD_THREADS = 8


def load_study(name: str, tracking_uri: str | None = None) -> StudyFrames:
    """Load a study, finished or not.

    Args:
        name: of the study.
        tracking_uri: MLflow store; by default $MLFLOW_TRACKING_URI, or the sqlite database that studies use.

    Raises:
        ValueError: the store cannot be read, or holds no such study, or no run of it that ended.
    """
    client = make_client(tracking_uri)
    experiment = find_experiment(client, name)
    with telling_failures(client), _no_garbage_collection():
        runs = find_trial_runs(client, experiment)
    ended = [run for run in runs if _has_ended(run)]
    if not ended:
        running = sum(run.info.status == "RUNNING" for run in runs)
        remedy = "wait for the first one" if running else f"run it (again), or: python -m study sync {name}"
        raise ValueError(f"study: MLflow holds no trial of {name!r} that ended ({running} are running); {remedy}")
    with telling_failures(client):
        histories, lost_histories = _load_tables(client, experiment, ended, HISTORY)
        profiles, lost_profiles = _load_tables(client, experiment, ended, PROFILE)
    return make_frames(
        name=name,
        experiment_tags=dict(experiment.tags),
        trial_rows=[_describe_run(run) for run in runs],
        histories=histories,
        profiles=profiles,
        incomplete=sorted(lost_histories | lost_profiles),
    )


@contextlib.contextmanager
def telling_failures(client: mlflow.MlflowClient) -> Iterator[None]:
    """Make one line of what a store raises that fails after it was opened."""
    try:
        yield
    except (MlflowException, OSError) as error:
        text = f"tracking-uri: {client.tracking_uri} fails ({_first_words(error)}); try again"
        raise ValueError(without_secrets(text, client.tracking_uri)) from None


def _first_words(error: Exception) -> str:
    return re.split(r"[\n(;]", str(error).strip(), maxsplit=1)[0].strip()


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Spare half of the time that SQLAlchemy takes: its many new objects make Python look through all old ones."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def make_client(tracking_uri: str | None) -> mlflow.MlflowClient:
    """Open a store. Raises ValueError when there is none, or it cannot be read."""
    uri = tracking_uri or default_tracking_uri()
    if uri.startswith("sqlite:///") and not sqlite_path(uri).is_file():
        raise ValueError(
            f"tracking-uri: {uri} does not exist; run a study first, send one's records to it "
            "(python -m study sync NAME), or give --storage or --tracking-uri"
        )
    if uri.startswith(("http://", "https://")):
        _check_that_somebody_listens(uri)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    try:
        client = mlflow.MlflowClient(uri)
        client.search_experiments(max_results=1)
    except Exception as error:  # every kind of store raises its own
        text = f"tracking-uri: {uri} cannot be read ({_first_words(error)}); check --tracking-uri"
        raise ValueError(without_secrets(text, uri)) from None
    return client


def _check_that_somebody_listens(uri: str) -> None:
    """Raise ValueError within seconds: MLflow itself tries for half a minute."""
    try:
        parts = urlparse(uri)
        port = parts.port if parts.port is not None else {"http": 80, "https": 443}[parts.scheme]
        if not parts.hostname or not port:
            raise ValueError("it names no host and port")
        socket.create_connection((parts.hostname, port), timeout=5).close()
    except (OSError, ValueError) as error:
        shown = without_secrets(uri, uri)
        raise ValueError(f"tracking-uri: {shown} cannot be read ({error}); check --tracking-uri") from None


def find_experiment(client: mlflow.MlflowClient, name: str) -> Experiment:
    """Return a study's experiment; raises ValueError, naming those that exist, when there is none."""
    experiment = client.get_experiment_by_name(name)
    if experiment is not None and experiment.lifecycle_stage == "active":
        return experiment
    known = [found.name for found in client.search_experiments(ViewType.ACTIVE_ONLY) if schema.TAG_DATA in found.tags]
    raise ValueError(
        f"study: {name!r} does not exist; choose one of: {', '.join(sorted(known)) or 'none yet'} "
        "(one that is only recorded is sent here by python -m study sync NAME)"
    )


def _has_ended(run: Run) -> bool:
    return schema.TAG_STATUS in run.data.tags


def find_trial_runs(client: mlflow.MlflowClient, experiment: Experiment) -> list[Run]:
    """Return one run per trial, for somebody may have restored others, or a lost answer left two for a moment.

    As a study keeps them (`study.run_log`): a complete one if there is one, else one that ended, else the newest.
    """
    runs: dict[str, Run] = {}
    for run in _search_runs(client, experiment):
        trial_id = run.data.tags.get(schema.TAG_TRIAL_ID)
        if trial_id is not None and (trial_id not in runs or _rank(run) > _rank(runs[trial_id])):
            runs[trial_id] = run
    return list(runs.values())


def _rank(run: Run) -> tuple[bool, bool]:
    return schema.is_complete(run.info.status, run.data.tags), _has_ended(run)


def _search_runs(client: mlflow.MlflowClient, experiment: Experiment) -> Iterator[Run]:
    """Yield the active runs, the newest first.

    MLflow's pages are counted from the first run, so that one which is deleted meanwhile moves another out of sight.
    The next page is therefore of what began no later than the last run, those that were seen left out.
    """
    seen: set[str] = set()
    begun = ""
    token: str | None = None
    while True:
        page = client.search_runs([experiment.experiment_id], begun, max_results=1000, page_token=token)
        yield from (run for run in page if run.info.run_id not in seen)
        seen |= {run.info.run_id for run in page}
        if not page.token:
            return
        next_begun = f"attributes.start_time <= {page[-1].info.start_time}"
        token = page.token if next_begun == begun else None  # a whole page of runs that began at once
        begun = next_begun


def _describe_run(run: Run) -> dict[str, str]:
    return {**run.data.tags, **run.data.params, "run_id": run.info.run_id, "name": run.info.run_name or ""}


def _load_tables(
    client: mlflow.MlflowClient, experiment: Experiment, runs: list[Run], kind: "TableKind"
) -> tuple[dict[str, pd.DataFrame], set[str]]:
    """Return one table of each run by run id, and the names of the runs whose artifact is lost."""
    path = cache_path(client.tracking_uri, experiment.experiment_id, kind.artifact)
    kept = read_cache(path, kind.columns)
    unread = [run for run in runs if _key(run) not in kept]
    with ThreadPoolExecutor(DOWNLOAD_THREADS) as pool:
        loading = [pool.submit(load_table, client, run, kind) for run in unread]
    read = [(run, *one.result()) for run, one in zip(unread, loading, strict=True) if not one.exception()]
    tables = {run.info.run_id: table for run, table, _ in read}
    fresh = {_key(run): table for run, table, complete in read if complete and _key(run)[1]}
    known = {_key(run): kept[_key(run)] for run in runs if _key(run) in kept}
    if fresh or len(known) < len(kept):
        write_cache(path, kind.columns, known | fresh)
    for one in loading:
        one.result()  # raises what failed, now that the others need not be read again
    lost = {run.info.run_name or "" for run, _, complete in read if not complete}
    return tables | {run_id: table for (run_id, _), table in known.items()}, lost


def _key(run: Run) -> RunKey:
    return run.info.run_id, run.info.end_time or 0


def load_table(client: mlflow.MlflowClient, run: Run, kind: "TableKind") -> tuple[pd.DataFrame, bool]:
    """Read a run's table; where it is lost, what its metrics hold of it, and False.

    Raises ValueError when the table lacks a column or holds what is no number.
    """
    content = _read_artifact(client, run, kind.artifact)
    table, complete = None if content is None else _parse(content), True
    if table is None:
        table, complete = pa.Table.from_pandas(kind.from_metrics(client, run), preserve_index=False), False
    try:
        # By column into one block of memory: a frame that is built from a table's columns takes ten times as long.
        numbers = [table.column(name).cast(pa.float64()).to_numpy() for name in kind.columns]
    except (KeyError, ValueError) as error:
        reason = str(error).strip("'").partition("\n")[0]
        raise ValueError(f"study: {kind.artifact} of run {run.info.run_id} is unusable ({reason}); delete it") from None
    return pd.DataFrame(np.column_stack(numbers), columns=list(kind.columns)), complete


def _read_artifact(client: mlflow.MlflowClient, run: Run, artifact: str) -> bytes | None:
    """Return an artifact; None when it is not there, which is no failure of the store: that is raised."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            return Path(_fetch(client, run, artifact, folder)).read_bytes()
        except FileNotFoundError:
            return None
        except (MlflowException, OSError):
            # Stores have no common way to say that a file is not there.
            if artifact in {found.path for found in client.list_artifacts(run.info.run_id)}:
                raise
            return None


def _parse(content: bytes) -> pa.Table | None:
    """Return a table; None when it is damaged."""
    try:
        with pq.ParquetFile(pa.BufferReader(content)) as file:
            return file.read(use_threads=False)
    except (OSError, ValueError):  # pyarrow's
        return None


def _history_from_metrics(client: mlflow.MlflowClient, run: Run) -> pd.DataFrame:
    columns = {
        name: {point.step: point.value for point in client.get_metric_history(run.info.run_id, name)}
        for name in schema.EPOCH_METRICS
        if name in run.data.metrics
    }
    table = pd.DataFrame(columns).rename_axis("epoch").sort_index().reset_index()
    return table.reindex(columns=["epoch", *schema.EPOCH_METRICS])


def _profile_from_metrics(client: mlflow.MlflowClient, run: Run) -> pd.DataFrame:
    """Return GSC by layer at the epochs that metrics hold; only that of epoch 0 has a known step."""
    rows = [
        {"step": 0 if epoch == 0 else None, "epoch": epoch, "layer": point.step, "log10_gsc": point.value}
        for epoch in range(int(run.data.params.get("epochs", 0)) + 1)
        if schema.layer_metric(epoch) in run.data.metrics
        for point in client.get_metric_history(run.info.run_id, schema.layer_metric(epoch))
    ]
    return pd.DataFrame(rows, columns=list(schema.LAYER_COLUMNS))


@dataclasses.dataclass(frozen=True)
class TableKind:
    """One of the tables that each run has as an artifact, and what stands for it where it is lost."""

    artifact: str
    columns: tuple[str, ...]
    from_metrics: Callable[[mlflow.MlflowClient, Run], pd.DataFrame]


HISTORY = TableKind(schema.HISTORY_TABLE, EPOCH_COLUMNS, _history_from_metrics)
PROFILE = TableKind(schema.GSC_TABLE, schema.LAYER_COLUMNS, _profile_from_metrics)


def _fetch(client: mlflow.MlflowClient, run: Run, artifact: str, folder: str) -> str:
    """Return a local path of an artifact; one on this machine is read where it lies."""
    uri = run.info.artifact_uri or ""
    if uri.startswith("file://"):
        return url2pathname(urlparse(f"{uri}/{artifact}").path)
    return client.download_artifacts(run.info.run_id, artifact, folder)
