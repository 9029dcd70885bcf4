"""A study and an MLflow store → the commands to type next, as the terminal names them: complete, but for secrets."""

import shlex

from study import run_log_schema as schema
from study.study_folder import StudyFolder


def sync_command(folder: StudyFolder, store: str) -> str:
    """Return what sends the records of a study to a store, given as it may be shown."""
    command = ["python", "-m", "study", "sync", folder.name]
    if folder.storage != schema.DEFAULT_STORAGE.resolve():
        command += ["--storage", str(folder.storage)]
    home = schema.home_tracking_uri(folder.storage)
    if store != home or schema.default_tracking_uri(folder.storage) != home:
        command += ["--tracking-uri", store]
    return shlex.join(command)


def report_command(name: str, store: str) -> str:
    """Return what writes the report of a study that is in a store, given as it may be shown."""
    command = ["python", "-m", "analysis", "report", name]
    if store != schema.home_tracking_uri():  # `make ui` and the analysis look there, whatever is set in this terminal
        command += ["--tracking-uri", store]
    return shlex.join(command)
