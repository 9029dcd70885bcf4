"""What a study that ended, failed in part, was interrupted or could not go on says at last, and its exit status."""

import io

import pytest
from rich.console import Console

from study.conclusion import Ending, conclude
from study.mlflow_service import Outcome
from study.trial_record import TrialRecord

GOES_ON = "The same command goes on where this one stopped."


@pytest.mark.parametrize(
    ("endings", "ending", "status", "said"),
    [
        (["ok", "diverged"], Ending(came_to_end=True), 0, "2 trials: 1 ok, 1 diverged, 0 failed."),
        (["ok", "failed"], Ending(came_to_end=True), 1, "2 trials: 1 ok, 0 diverged, 1 failed."),
        (["ok", None], Ending(came_to_end=False), 130, f"Interrupted. {GOES_ON}"),
        (["ok", None], Ending(came_to_end=False, problem="storage: full"), 1, f"Stopped: storage: full. {GOES_ON}"),
    ],
)
def test_the_end(make_trial, folder, endings, ending, status, said):
    trials = [make_trial(seed=seed) for seed in range(2)]
    for trial, end in zip(trials, endings, strict=True):
        record = TrialRecord(folder.record_path(trial.trial_id), trial, "pack", {})
        if end is not None:
            record.end(end, "why it failed" if end == "failed" else "")
    statuses = dict(zip((trial.trial_id for trial in trials), endings, strict=True))
    console = Console(file=io.StringIO(), width=200)
    uri = "sqlite:///" + str(folder.storage / "mlflow.db")
    outcome = Outcome(sent={}, unsent=[], problem=None)
    assert conclude(trials, statuses, folder, outcome, uri, ending, console) == status
    output = console.file.getvalue()
    assert said in output.splitlines()
    assert ("why it failed" in output) == ("failed" in endings)
    assert ("1 not finished" in output) == (None in endings)
