"""The table at the end of a run: of seeds the mean, of learning rates the best."""

import io

from rich.console import Console

from study import run_log_schema as schema
from study.summary import print_summary
from study.train_loop import MemberEpoch
from study.trial_record import StudyFolder, TrialRecord


def summarise(tmp_path, make_trial, outcomes, width=120, train_errors=None):
    """Return the table's text for (fields, final test error or status) of trials; training errors are as large."""
    folder = StudyFolder(tmp_path / "studies", "some")
    folder.create()
    trials, statuses = [], {}
    for fields, outcome in outcomes:
        trial = make_trial(**fields)
        trials.append(trial)
        ok = isinstance(outcome, float)
        record = TrialRecord(folder.record_path(trial.trial_id), trial, "pack", {})
        error = outcome if ok else 0.01
        metrics = {schema.TRAIN_ERROR: (train_errors or {}).get(error, error), schema.TEST_ERROR: error}
        record.add_epoch(MemberEpoch(trial.trial_id, 0, metrics, [], False))
        record.end(schema.STATUS_OK if ok else outcome)
        statuses[trial.trial_id] = schema.STATUS_OK if ok else outcome
    console = Console(file=io.StringIO(), width=width)
    print_summary(trials, statuses, folder, console)
    return console.file.getvalue()


def test_seeds_are_averaged_and_the_best_rate_is_shown(tmp_path, make_trial):
    lucky, steady = {"learning_rate": 0.1}, {"learning_rate": 0.2}
    text = summarise(
        tmp_path,
        make_trial,
        [
            ({**lucky, "seed": 0}, 0.1),
            ({**lucky, "seed": 1}, 0.9),
            ({**steady, "seed": 0}, 0.4),
            ({**steady, "seed": 1}, 0.3),
        ],
    )
    assert "0.350" in text
    assert "0.100" not in text


def test_the_test_error_is_not_selected_upon(tmp_path, make_trial):
    outcomes = [({"learning_rate": 0.1}, 0.4), ({"learning_rate": 0.2}, 0.3)]
    text = summarise(tmp_path, make_trial, outcomes, train_errors={0.4: 0.1, 0.3: 0.2})
    assert "0.400" in text
    assert "0.300" not in text


def test_a_rate_that_diverges_with_some_seeds_is_not_the_best(tmp_path, make_trial):
    wild, tame = {"learning_rate": 9.0}, {"learning_rate": 0.2}
    text = summarise(
        tmp_path,
        make_trial,
        [
            ({**wild, "seed": 0}, 0.1),
            ({**wild, "seed": 1}, "diverged"),
            ({**tame, "seed": 0}, 0.5),
            ({**tame, "seed": 1}, 0.5),
        ],
    )
    assert "0.500" in text


def test_what_ended_ill_is_named(tmp_path, make_trial):
    text = summarise(tmp_path, make_trial, [({"depth": 3}, "diverged"), ({"depth": 9}, "failed")])
    assert "diverged" in text
    assert "failed" in text


def test_no_number_is_cut_in_a_narrow_terminal(tmp_path, make_trial):
    depths = range(4, 24)
    text = summarise(tmp_path, make_trial, [({"depth": depth}, depth / 1000) for depth in depths], width=40)
    (row,) = [line for line in text.splitlines() if "0.004" in line]
    assert [float(cell) for cell in row.split()[3:]] == [depth / 1000 for depth in depths]
