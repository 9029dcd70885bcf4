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


def test_a_diverged_trial_counts_as_chance(tmp_path, make_trial):
    """As in the report: neither as nothing at all, nor as the end of its learning rate."""

    def outcomes(tame):
        return [
            *(({"learning_rate": 9.0, "seed": seed}, outcome) for seed, outcome in enumerate((0.1, 0.1, "diverged"))),
            *(({"learning_rate": 0.2, "seed": seed}, tame) for seed in range(3)),
        ]

    assert "0.367" in summarise(tmp_path / "wild", make_trial, outcomes(0.5))  # (0.1 + 0.1 + 0.9) / 3
    assert "0.300" in summarise(tmp_path / "tame", make_trial, outcomes(0.3))


def test_a_missing_trial_does_not_change_the_rate(tmp_path, make_trial):
    good = [({"learning_rate": 0.1, "seed": seed}, outcome) for seed, outcome in enumerate((0.2, 0.2, "failed"))]
    bad = [({"learning_rate": 0.2, "seed": seed}, 0.5) for seed in range(3)]
    assert "0.200" in summarise(tmp_path, make_trial, good + bad)


def test_what_ended_ill_is_named(tmp_path, make_trial):
    text = summarise(tmp_path, make_trial, [({"depth": 3}, "diverged"), ({"depth": 9}, "failed")])
    assert "diverged" in text
    assert "failed" in text


def test_no_number_is_cut_in_a_narrow_terminal(tmp_path, make_trial):
    depths = range(4, 24)
    text = summarise(tmp_path, make_trial, [({"depth": depth}, depth / 1000) for depth in depths], width=40)
    (row,) = [line for line in text.splitlines() if "0.004" in line]
    assert [float(cell) for cell in row.split()[3:]] == [depth / 1000 for depth in depths]


def test_what_a_cut_off_record_says_is_no_final_error(tmp_path, make_trial):
    folder, trial = StudyFolder(tmp_path / "studies", "some"), make_trial()
    folder.create()
    record = TrialRecord(folder.record_path(trial.trial_id), trial, "pack", {})
    record.add_epoch(MemberEpoch(trial.trial_id, 0, {schema.TRAIN_ERROR: 0.5, schema.TEST_ERROR: 0.5}, [], False))
    console = Console(file=io.StringIO(), width=120)
    print_summary([trial], {trial.trial_id: schema.STATUS_OK}, folder, console)
    assert "in MLflow" in console.file.getvalue()
    assert "0.500" not in console.file.getvalue()
