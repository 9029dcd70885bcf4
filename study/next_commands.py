"""A study and an MLflow store → the commands to type next, as the terminal names them: complete, but for secrets."""

import shlex

from study import run_log_schema as schema
from study.study_folder import StudyFolder
from study.tracking_uri import name_store


def sync_command(folder: StudyFolder, store: str) -> str:
    """Return what sends the records of a study to a store, given as it may be shown."""
    command = ["python", "-m", "study", "sync", folder.name]
    if folder.storage != schema.DEFAULT_STORAGE.resolve():
        command += ["--storage", str(folder.storage)]
    return shlex.join(command + name_store(store, folder.storage))


def report_command(name: str, store: str) -> str:
    """Return what writes the report of a study that is in a store, given as it may be shown."""
    return shlex.join(["python", "-m", "analysis", "report", name, *name_store(store)])
