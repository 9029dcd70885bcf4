"""Results of the analysis → MLflow: figures of runs, and reports."""

import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from analysis.load_runs import PROFILE, find_experiment, find_trial_runs, load_table, make_client, telling_failures
from study import run_log_schema as schema

REPORT_TAG = "report_of"


def attach_gsc_figures(name: str, tracking_uri: str | None, draw: Callable[[pd.DataFrame, str, Path], None]) -> int:
    """Give every ended run without one its GSC figure; return how many were drawn."""
    client = make_client(tracking_uri)
    drawn = 0
    with telling_failures(client):
        for run in find_trial_runs(client, find_experiment(client, name)):
            present = {artifact.path for artifact in client.list_artifacts(run.info.run_id)}
            if schema.GSC_TABLE not in present or schema.GSC_FIGURE in present:
                continue
            profile, _ = load_table(client, run, PROFILE)
            if profile.empty:
                continue
            with tempfile.TemporaryDirectory() as folder:
                figure = Path(folder) / schema.GSC_FIGURE
                draw(profile, run.info.run_name or run.info.run_id, figure)
                client.log_artifact(run.info.run_id, str(figure))
            drawn += 1
    return drawn


def store_report(name: str, tracking_uri: str | None, files: Sequence[Path], summary: str) -> str:
    """Store a report's files in MLflow and put its summary on the study's page; return the run's id.

    The report is a run of an experiment of its own, so that every run of the study's experiment is a trial.
    """
    client = make_client(tracking_uri)
    study = find_experiment(client, name)
    report_name = f"{name} report"
    found = client.get_experiment_by_name(report_name)
    if found is not None and found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    local = study.artifact_location if study.artifact_location.startswith("file:") else None
    experiment_id = (
        found.experiment_id
        if found
        else client.create_experiment(report_name, artifact_location=f"{local} report" if local else None)
    )
    run = client.create_run(experiment_id, run_name="report", tags={REPORT_TAG: name, "mlflow.note.content": summary})
    with tempfile.TemporaryDirectory() as folder:  # in one request to learn where to, instead of one a file
        for file in files:
            shutil.copy(file, folder)
        client.log_artifacts(run.info.run_id, folder)
    client.set_terminated(run.info.run_id)
    client.set_experiment_tag(study.experiment_id, "mlflow.note.content", summary)
    return run.info.run_id
