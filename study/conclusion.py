"""How the trials of a study ended → what is printed at the end, where to look, and the exit status."""

import dataclasses
from collections.abc import Mapping, Sequence

from rich.console import Console

from study import run_log_schema as schema
from study.mlflow_service import Outcome
from study.next_commands import report_command, sync_command
from study.one_line_errors import INTERRUPTED, SOME_FAILED
from study.study_folder import StudyFolder
from study.summary import print_summary
from study.tracking_uri import home_tracking_uri, without_secrets
from study.trial_config import TrialConfig
from study.trial_record import read_error
from study.ui_view import view_link


@dataclasses.dataclass(frozen=True)
class Ending:
    """How a sweep ended: it came to its end, or was interrupted, or could not go on because of a `problem`."""

    came_to_end: bool
    problem: str = ""


def conclude(
    trials: Sequence[TrialConfig],
    statuses: Mapping[str, str | None],
    folder: StudyFolder,
    outcome: Outcome,
    tracking_uri: str,
    ending: Ending,
    console: Console,
) -> int:
    """Print how it ended and where to look; return the exit status."""
    print_summary(trials, statuses, folder, console)
    endings = list(statuses.values())
    order = (schema.STATUS_OK, schema.STATUS_DIVERGED, schema.STATUS_FAILED)
    counts = [f"{endings.count(status)} {status}" for status in order]
    if None in endings:
        counts.append(f"{endings.count(None)} not finished")
    console.print(f"{len(trials)} trials: {', '.join(counts)}.", highlight=False)
    if schema.STATUS_FAILED in endings:
        failed = next(trial for trial in trials if statuses[trial.trial_id] == schema.STATUS_FAILED)
        reason = read_error(folder.record_path(failed.trial_id)).strip().rpartition("\n")[2]
        console.print(
            f"First failure, {failed.name}: {reason} (whole text: tag {schema.TAG_ERROR} in MLflow)", markup=False
        )
    shown_uri = without_secrets(tracking_uri, tracking_uri)
    console.print(f"Records: {folder.path}    MLflow: {shown_uri}", highlight=False, markup=False, soft_wrap=True)
    if outcome.experiment_id is not None:
        _tell_where_to_browse(outcome.experiment_id, tracking_uri, console)
    report = f"Report: {report_command(folder.name, shown_uri)}"
    console.print(report, highlight=False, markup=False, soft_wrap=True)
    if outcome.unsent:
        console.print(
            f"{len(outcome.unsent)} trials are recorded but not in MLflow ({outcome.problem}); "
            f"to send them: {sync_command(folder, shown_uri)}",
            style="yellow",
            markup=False,
            soft_wrap=True,
        )
    if ending.problem:
        stopped = f"Stopped: {ending.problem}. The same command goes on where this one stopped."
        console.print(stopped, style="bold red", highlight=False, markup=False, soft_wrap=True)
        return SOME_FAILED
    if not ending.came_to_end:
        console.print("Interrupted. The same command goes on where this one stopped.", style="yellow")
        return INTERRUPTED
    return SOME_FAILED if schema.STATUS_FAILED in endings else 0


def _tell_where_to_browse(experiment_id: str, tracking_uri: str, console: Console) -> None:
    if tracking_uri == home_tracking_uri():
        console.print("Browse: make ui, then open", style="bold")
    elif tracking_uri.startswith("sqlite:"):
        server = f"mlflow ui --workers 1 --backend-store-uri {tracking_uri}"
        console.print(f"Browse: {server}, then open", highlight=False, markup=False, soft_wrap=True)
    link = view_link(experiment_id, without_secrets(tracking_uri, tracking_uri))
    console.print(link, highlight=False, markup=False, soft_wrap=True)
