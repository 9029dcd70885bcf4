"""Runs in a real MLflow store: one per trial, whatever requests and answers were lost."""

from pathlib import Path

import pandas as pd
import pytest
from mlflow.exceptions import MlflowException

from analysis import load_study
from analysis.report import describe_study
from study import run_log_schema as schema
from study.ledgers import note_planned
from study.run_log import METRICS_PER_REQUEST, RunLog, is_complete, is_sent
from study.run_sender import RunSender
from study.tracking import Connection
from study.train_loop import MemberEpoch
from study.trial_record import StudyFolder, TrialRecord

pytestmark = pytest.mark.filterwarnings("ignore")  # mlflow's own

DATA = {"data": "synthetic", "data_checksum": "1", "chance_error": "0.9"}


@pytest.fixture
def run_log(tmp_path, folder):
    return Connection(f"sqlite:///{tmp_path / 'mlflow.db'}", folder, DATA, epochs=1, at_once=False).open()


def write_record(folder, trial, error=0.5, status=schema.STATUS_OK):
    record = TrialRecord(folder.record_path(trial.trial_id), trial, "pack", DATA)
    for epoch in range(2):
        rows = [(epoch, float(epoch), layer, 1.0, 0.1, None, None, None) for layer in range(3)]
        record.add_epoch(MemberEpoch(trial.trial_id, epoch, {schema.TRAIN_ERROR: error}, rows, False))
    record.end(status)


def active_runs(run_log):
    return run_log.client.search_runs([run_log.experiment_id])


@pytest.mark.parametrize("may_have_runs", [True, False])
def test_a_lost_answer_to_the_creation_of_a_run_leaves_one_run(run_log, folder, make_trial, monkeypatch, may_have_runs):
    trial = make_trial()
    write_record(folder, trial)
    create = run_log.client.create_run

    def create_and_lose(*arguments, **options):
        create(*arguments, **options)
        monkeypatch.setattr(run_log.client, "create_run", create)
        raise MlflowException("the answer was lost")

    monkeypatch.setattr(run_log.client, "create_run", create_and_lose)
    transmission = run_log.begin_transmission(trial.trial_id, may_have_runs)
    with pytest.raises(MlflowException):
        transmission.advance()
    assert len(active_runs(run_log)) == 1
    transmission.advance()
    (run,) = active_runs(run_log)
    assert is_complete(run)
    assert run.data.metrics[schema.TRAIN_ERROR] == 0.5


@pytest.mark.parametrize("method", ["log_batch", "log_artifacts", "set_terminated"])
def test_any_lost_answer_is_made_good(run_log, folder, make_trial, monkeypatch, method):
    trial = make_trial()
    write_record(folder, trial)
    sender = run_log if method == "log_artifacts" else run_log.client
    original = getattr(sender, method)
    transmission = run_log.begin_transmission(trial.trial_id)

    def do_and_lose(*arguments, **options):
        original(*arguments, **options)
        monkeypatch.setattr(sender, method, original)
        raise MlflowException("the answer was lost")

    monkeypatch.setattr(sender, method, do_and_lose)
    with pytest.raises(MlflowException):
        transmission.advance()
    transmission.advance()
    (run,) = active_runs(run_log)
    assert is_complete(run)
    assert [point.step for point in run_log.client.get_metric_history(run.info.run_id, schema.TRAIN_ERROR)] == [0, 1]


def test_a_trial_of_many_metrics_is_sent_in_several_requests_and_whole(run_log, folder, make_trial):
    trial = make_trial()
    record = TrialRecord(folder.record_path(trial.trial_id), trial, "pack", DATA)
    metrics = dict.fromkeys(schema.EPOCH_METRICS, 0.25)
    transmission = run_log.begin_transmission(trial.trial_id, may_have_runs=False)
    for epoch in range(200):
        rows = [(epoch, float(epoch), layer, 1.0, 0.1, None, None, None) for layer in range(3)]
        record.add_epoch(MemberEpoch(trial.trial_id, epoch, metrics, rows, False))
        if epoch in (0, 3):
            transmission.advance()
    record.end(schema.STATUS_OK)
    transmission.advance()
    transmission.advance()  # nothing is new
    (run,) = active_runs(run_log)
    assert is_complete(run)
    assert run.data.params["depth"] == str(trial.depth)
    for name in schema.EPOCH_METRICS:
        assert [point.step for point in run_log.client.get_metric_history(run.info.run_id, name)] == list(range(200))


def test_a_status_is_not_seen_before_all_metrics_are_there(run_log, folder, make_trial, monkeypatch):
    trial = make_trial()
    record = TrialRecord(folder.record_path(trial.trial_id), trial, "pack", DATA)
    rows = [(0, 0.0, layer, 1.0, 0.1, None, None, None) for layer in range(METRICS_PER_REQUEST - 3)]
    record.add_epoch(
        MemberEpoch(trial.trial_id, 0, {schema.TRAIN_ERROR: 0.5, schema.TEST_ERROR: 0.5}, rows, False)
    )  # one less than are sent at once, before the final metrics
    record.end(schema.STATUS_OK)
    original, requests = run_log.client.log_batch, []

    def fail_at_the_second(*arguments, **options):
        requests.append(options)
        if len(requests) == 2:
            raise MlflowException("the server is gone")
        original(*arguments, **options)

    monkeypatch.setattr(run_log.client, "log_batch", fail_at_the_second)
    transmission = run_log.begin_transmission(trial.trial_id)
    with pytest.raises(MlflowException):
        transmission.advance()
    (run,) = active_runs(run_log)
    assert schema.TAG_STATUS not in run.data.tags
    transmission.advance()
    (run,) = active_runs(run_log)
    assert is_complete(run)
    assert run.data.metrics[schema.FINAL_TEST_ERROR] == 0.5


def test_a_record_written_anew_replaces_its_run(run_log, folder, make_trial):
    trial = make_trial()
    write_record(folder, trial, error=0.5)
    transmission = run_log.begin_transmission(trial.trial_id)
    transmission.advance()
    write_record(folder, trial, error=0.25)
    transmission.advance()
    (run,) = active_runs(run_log)
    assert run.data.metrics[schema.TRAIN_ERROR] == 0.25


def test_a_run_deleted_by_somebody_is_sent_again(run_log, folder, make_trial):
    trial = make_trial()
    path = folder.record_path(trial.trial_id)
    TrialRecord(path, trial, "pack", DATA)
    transmission = run_log.begin_transmission(trial.trial_id)
    transmission.advance()
    begun = path.read_text()
    write_record(folder, trial)
    attempt = begun.split('"attempt": "')[1][:8]
    ours = path.read_text()
    path.write_text(ours.replace(ours.split('"attempt": "')[1][:8], attempt))  # the same attempt, gone on
    run_log.client.delete_run(transmission.run_id)
    with pytest.raises(MlflowException):
        transmission.advance()
    transmission.advance()
    (run,) = active_runs(run_log)
    assert is_complete(run)


def test_of_several_runs_of_a_trial_the_complete_one_stays(run_log, folder, make_trial):
    trial = make_trial()
    tags = {schema.TAG_TRIAL_ID: trial.trial_id}
    run_log.client.create_run(run_log.experiment_id, tags=tags, start_time=1)
    write_record(folder, trial)
    complete = run_log.begin_transmission(trial.trial_id)
    complete.advance()
    run_log.client.create_run(run_log.experiment_id, tags=tags, start_time=2**42)
    run_log.client.create_run(run_log.experiment_id)  # somebody else's, no trial
    assert {key: run.info.run_id for key, run in run_log.find_runs().items()} == {trial.trial_id: complete.run_id}
    assert len(active_runs(run_log)) == 2


def test_of_several_complete_runs_that_of_the_record_stays(run_log, folder, make_trial):
    trial = make_trial()
    attempts = []
    for error in (0.5, 0.25):
        write_record(folder, trial, error)
        run_log.begin_transmission(trial.trial_id, may_have_runs=False).advance()
        attempts.append(run_log.read_attempt(trial.trial_id))
    newest_first = [run.data.tags[schema.TAG_ATTEMPT] for run in active_runs(run_log)]
    record = folder.record_path(trial.trial_id)
    record.write_text(record.read_text().replace(newest_first[0], newest_first[1]))
    assert run_log.find_runs()[trial.trial_id].data.tags[schema.TAG_ATTEMPT] == newest_first[1]


def test_a_complete_run_stays_until_the_new_record_is_whole(run_log, folder, make_trial):
    def send():
        with RunSender(lambda: run_log, run_log.tracking_uri) as sender:
            sender.send([trial.trial_id])
        (run,) = active_runs(run_log)
        return run.info.status, run.data.metrics[schema.TRAIN_ERROR]

    trial = make_trial()
    write_record(folder, trial)
    assert send() == ("FINISHED", 0.5)
    TrialRecord(folder.record_path(trial.trial_id), trial, "pack", DATA)  # begun anew
    assert send() == ("FINISHED", 0.5)
    write_record(folder, trial, error=0.25)
    assert send() == ("FINISHED", 0.25)


def test_a_complete_run_of_another_attempt_is_not_the_records(run_log, folder, make_trial):
    trial = make_trial()
    write_record(folder, trial)
    run_log.begin_transmission(trial.trial_id).advance()
    (run,) = active_runs(run_log)
    assert is_sent(run, run_log.read_attempt(trial.trial_id))
    assert run_log.complete_trials() == {trial.trial_id: schema.STATUS_OK}
    write_record(folder, trial, error=0.25)
    assert not is_sent(run, run_log.read_attempt(trial.trial_id))
    assert run_log.complete_trials() == {}
    folder.record_path(trial.trial_id).unlink()  # MLflow's run is all that is left of it
    assert is_sent(run, run_log.read_attempt(trial.trial_id))
    assert run_log.complete_trials() == {trial.trial_id: schema.STATUS_OK}


def test_nothing_is_missed_when_runs_are_dropped_between_pages(run_log, folder, make_trial, monkeypatch):
    original = run_log.client.search_runs

    def small_pages(*arguments, max_results=0, **options):
        return original(*arguments, max_results=3, **options)

    monkeypatch.setattr(run_log.client, "search_runs", small_pages)
    for name in "dddabce":
        run_log.client.create_run(run_log.experiment_id, tags={schema.TAG_TRIAL_ID: name})
    assert sorted(run_log.find_runs()) == list("abcde")
    for _ in range(5):
        run_log.client.create_run(run_log.experiment_id, tags={schema.TAG_TRIAL_ID: "a"})
    run_log.drop_runs("a")
    assert sorted(run_log.find_runs()) == list("bcde")


def test_another_storage_may_not_take_a_study_over(run_log, folder, tmp_path):
    uri = run_log.tracking_uri
    RunLog(uri, folder, DATA, epochs=1)
    other = StudyFolder(tmp_path / "elsewhere", "some")
    other.create()
    with pytest.raises(ValueError, match="has its records in another storage"):
        RunLog(uri, other, DATA, epochs=1)
    folder.path.parent.rename(tmp_path / "moved")
    RunLog(uri, StudyFolder(tmp_path / "moved", "some"), DATA, epochs=1)


def test_a_report_can_tell_that_trials_are_missing(run_log, folder, make_trial):
    trials = [make_trial(seed=seed) for seed in range(3)]
    note_planned(folder, trials[:2])
    write_record(folder, trials[0])
    RunLog(run_log.tracking_uri, folder, DATA, epochs=1).begin_transmission(trials[0].trial_id).advance()
    assert describe_study(load_study("some", run_log.tracking_uri)).endswith(" 2 planned, 1 of them here.")
    note_planned(folder, trials)
    RunLog(run_log.tracking_uri, folder, DATA, epochs=1)
    assert "3 planned, 1 of them here" in describe_study(load_study("some", run_log.tracking_uri))


def test_other_data_are_refused(run_log, folder):
    with pytest.raises(ValueError, match="was run on synthetic"):
        RunLog(run_log.tracking_uri, folder, {**DATA, "data_checksum": "2"}, epochs=1)


def test_what_is_drawn_by_layer_stays_the_same_when_a_study_grows(run_log, folder):
    assert run_log.layer_epochs == [0, 1]
    assert RunLog(run_log.tracking_uri, folder, DATA, epochs=40).layer_epochs == [0, 1]


@pytest.mark.parametrize("damage", ["removed", "truncated"])
def test_lost_tables_are_made_up_for_from_metrics(run_log, folder, make_trial, damage, monkeypatch, tmp_path):
    trials = [make_trial(seed=seed, epochs=1) for seed in range(2)]
    for trial in trials:
        write_record(folder, trial)
        run_log.begin_transmission(trial.trial_id).advance()
    before = load_study("some", run_log.tracking_uri)
    assert before.incomplete == []
    lost = active_runs(run_log)[0]
    for table in (schema.HISTORY_TABLE, schema.GSC_TABLE):
        path = Path(f"{lost.info.artifact_uri.removeprefix('file://')}/{table}")
        path.unlink() if damage == "removed" else path.write_bytes(path.read_bytes()[:100])
    monkeypatch.setenv("ANALYSIS_CACHE", str(tmp_path / "cache of a machine that has not read them"))
    after = load_study("some", run_log.tracking_uri)
    assert after.incomplete == [lost.info.run_name]
    order = ["run_id", "epoch"]
    pd.testing.assert_frame_equal(
        after.epochs.sort_values(order, ignore_index=True), before.epochs.sort_values(order, ignore_index=True)
    )
    kept = ["run_id", "epoch", "layer", "log10_gsc"]
    pd.testing.assert_frame_equal(
        after.layers[kept].sort_values(kept, ignore_index=True),
        before.layers[kept].sort_values(kept, ignore_index=True),
    )
