"""`status` reads records alone; `sync` sends them, once, whatever was lost on the way."""

import errno
import fcntl
import io
import json
import os
import socket
import threading
from pathlib import Path

import mlflow
import pytest
from filelock import FileLock
from rich.console import Console

from study import run_log_schema as schema
from study import trial_record
from study.__main__ import main
from study.ledgers import (
    known_as_sent,
    note_planned,
    note_sent,
    read_planned,
    read_sent,
)
from study.next_commands import report_command, sync_command
from study.status_command import is_running, read_states, show_status
from study.tracking_uri import home_tracking_uri
from study.train_loop import MemberEpoch
from study.trial_record import StudyFolder, TrialRecord, read_start

pytestmark = pytest.mark.filterwarnings("ignore")  # mlflow's own
DATA = {"data": "synthetic", "data_checksum": "1", "chance_error": "0.9"}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = StudyFolder(tmp_path / "studies", "some")
    folder.create()
    return folder


def write_record(folder, trial, status=schema.STATUS_OK, epochs=3, error=""):
    record = TrialRecord(folder.record_path(trial.trial_id), trial, "pack", DATA)
    for epoch in range(epochs):
        rows = [(epoch, float(epoch), layer, 1.0, 0.1, None, None, None) for layer in range(3)]
        record.add_epoch(MemberEpoch(trial.trial_id, epoch, {schema.TRAIN_ERROR: 0.5}, rows, False))
    if status is not None:
        record.end(status, error)
    return record


@pytest.fixture
def trials(folder, make_trial):
    """One trial in every state: ok, diverged, failed, unfinished, not begun."""
    trials = [make_trial(seed=seed) for seed in range(5)]
    note_planned(folder, trials)
    write_record(folder, trials[0])
    write_record(folder, trials[1], schema.STATUS_DIVERGED, epochs=2)
    write_record(folder, trials[2], schema.STATUS_FAILED, epochs=1, error="Traceback …\nValueError: its own fault")
    write_record(folder, trials[3], None, epochs=2)
    return trials


def status(capsys):
    assert main(["status", "some", "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_status_counts_every_trial_once(folder, trials, capsys):
    facts = status(capsys)
    assert facts["trials"] == 5
    assert facts["by_status"] == {"ok": 1, "diverged": 1, "failed": 1, "unfinished": 1, "not begun": 1}
    assert (facts["epochs_done"], facts["epochs"]) == (2 + 1 + 0 + 1, 10)
    assert [trial["trial_id"] for trial in facts["unfinished"]] == [trials[3].trial_id]
    assert facts["running"] is False
    assert facts["begun_again"] == 0
    write_record(folder, trials[3], None)
    assert status(capsys)["begun_again"] == 1
    assert main(["status", "some"]) == 0
    output = capsys.readouterr().out
    assert "not being run" in output
    assert f"unfinished: {trials[3].name}: epoch 2 of 2" in output
    assert f"failed: {trials[2].name}: ValueError: its own fault" in output


def test_status_counts_how_often_trials_were_begun_again(folder, make_trial, capsys):
    never, once, thrice = (make_trial(seed=seed) for seed in range(3))
    note_planned(folder, [never, once, thrice])
    write_record(folder, once, None, epochs=1)
    write_record(folder, thrice, None, epochs=1)
    assert status(capsys)["begun_again"] == 0  # that both are unfinished is told by a count of its own
    write_record(folder, once)
    write_record(folder, thrice, schema.STATUS_FAILED, epochs=1)
    write_record(folder, thrice, None, epochs=2)
    write_record(folder, thrice)
    assert status(capsys)["begun_again"] == 1 + 3
    assert [state.begun_again for state in read_states(folder)] == [0, 1, 3]


def test_status_is_whole_in_a_narrow_terminal(folder, trials, capsys, monkeypatch):
    write_record(folder, trials[2], schema.STATUS_FAILED, epochs=1, error="ValueError: " + "long " * 40 + "reason")
    monkeypatch.setenv("COLUMNS", "40")
    assert main(["status", "some"]) == 0
    study, headings, _, counts, *lines = capsys.readouterr().out.splitlines()
    assert str(folder.storage) in study
    words = "trials ok diverged failed unfinished not begun epochs done begun again"
    assert headings.split() == words.split()
    assert counts.split() == ["5", "1", "1", "1", "1", "1", "4", "of", "10", "1"]
    assert [line.partition(":")[0] for line in lines] == ["unfinished", "failed", "Nothing was sent to MLflow yet"]
    assert lines[1].endswith("long reason")


def test_status_of_records_without_a_plan_and_of_damaged_ones(folder, trials, capsys):
    (folder.path / "plan.jsonl").unlink()
    assert status(capsys)["by_status"] == {"ok": 1, "diverged": 1, "failed": 1, "unfinished": 1, "not begun": 0}
    folder.record_path(trials[0].trial_id).write_text("{")
    assert status(capsys)["by_status"]["not begun"] == 1


def test_status_says_whether_a_driver_is_at_work(folder, trials, capsys):
    with FileLock(folder.driver_lock):
        seen = []
        thread = threading.Thread(target=lambda: seen.append(is_running(folder)))
        thread.start()
        thread.join()
        assert seen == [True]
        assert status(capsys)["running"] is True
    assert not is_running(folder)


@pytest.mark.parametrize("command", ["status", "sync"])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none", "'none' does not exist; choose one of other, some, or give its --storage"),
        ("Some", "'Some' does not exist; did you mean 'some'? choose one of other, some"),
        ("../some", "name: '../some' is unusable"),
    ],
)
def test_studies_that_do_not_exist(folder, capsys, command, name, message):
    StudyFolder(folder.storage, "other").create()
    assert main([command, name]) == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert errors.count("\n") == 1


def test_a_storage_without_studies(folder, capsys):
    assert main(["status", "some", "--storage", "nowhere"]) == 2
    assert f"there is no study in {Path.cwd() / 'nowhere'}; give the --storage of 'some'" in capsys.readouterr().err


def uri():
    return f"sqlite:///{Path.cwd()}/mlflow.db"


def runs():
    client = mlflow.MlflowClient(uri())
    return client.search_runs([client.get_experiment_by_name("some").experiment_id])


def test_sync_sends_everything_once(folder, trials, capsys):
    assert main(["sync", "some", "--tracking-uri", uri()]) == 0
    assert "4 of 4 records are in MLflow" in capsys.readouterr().out
    first = {run.data.tags["trial_id"]: run for run in runs()}
    assert len(runs()) == len(first) == 4
    assert [first[trial.trial_id].info.status for trial in trials[:4]] == ["FINISHED", "FINISHED", "FAILED", "KILLED"]
    assert "its own fault" in first[trials[2].trial_id].data.tags[schema.TAG_ERROR]
    assert main(["sync", "some", "--tracking-uri", uri()]) == 0
    again = {run.data.tags["trial_id"]: run for run in runs()}
    for trial in trials[:3]:
        assert again[trial.trial_id].info.run_id == first[trial.trial_id].info.run_id
    assert len(runs()) == 4
    capsys.readouterr()
    assert status(capsys)["unsent"] == {uri(): 0}


def test_what_is_to_be_typed_is_complete(folder, trials, capsys, monkeypatch):
    home, elsewhere = home_tracking_uri(folder.storage), folder.storage.with_name("not usual")
    assert sync_command(folder, home) == "python -m study sync some"
    assert report_command("some", home) == "python -m analysis report some"
    store = "http://user:***@host:5000"
    assert sync_command(folder, store) == f"python -m study sync some --tracking-uri '{store}'"
    folder.storage.rename(elsewhere)
    moved = StudyFolder(elsewhere, folder.name)
    note_sent(moved, "http://host:5000", {trials[0].trial_id: "another"})
    assert main(["status", "some", "--storage", str(elsewhere)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == (
        "Ended trials sent to http://host:5000: 3 wait for: python -m study sync some "
        f"--storage '{elsewhere}' --tracking-uri http://host:5000"
    )
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:secret@host:5000")
    for command in (sync_command(folder, store), report_command("some", store)):
        assert "--tracking-uri" not in command  # the variable holds what is hidden
    for command in (sync_command(folder, home), report_command("some", home)):
        assert command.endswith(f"--tracking-uri {home}")


def test_a_database_that_is_gone_is_told(folder, trials, capsys):
    assert main(["sync", "some"]) == 0
    assert main(["status", "some"]) == 0
    told = capsys.readouterr().out.splitlines()[-1]
    assert told.endswith("/studies/mlflow.db: all of them")
    Path("studies/mlflow.db").unlink()
    assert main(["status", "some"]) == 0
    told = capsys.readouterr().out.splitlines()[-1]
    assert told.endswith("/studies/mlflow.db: that file is gone; to send all again: python -m study sync some")
    Path("studies").rename("moved")
    assert main(["sync", "some", "--storage", "moved"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith("/studies/mlflow.db before")
    assert main(["status", "some", "--storage", "moved"]) == 0
    told = sorted(line.rpartition(": ")[2] for line in capsys.readouterr().out.splitlines()[-2:])
    assert told == ["all of them", "that file is gone"]


def test_where_nothing_was_sent_the_usual_store_is_named(folder, trials, capsys, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://host:5000")
    assert main(["status", "some"]) == 0
    told = "Nothing was sent to MLflow yet: python -m study sync some --tracking-uri http://host:5000"
    assert capsys.readouterr().out.splitlines()[-1] == told


def test_sync_tells_where_a_study_was_sent_before(folder, trials, capsys):
    attempts = {trial.trial_id: read_start(folder.record_path(trial.trial_id))["attempt"] for trial in trials[:3]}
    first, *others = attempts
    note_sent(folder, "http://host:5000", {first: attempts[first]})
    assert main(["sync", "some", "--tracking-uri", uri()]) == 0
    told = "1 of 3 ended trials were sent to http://host:5000 before; for the rest: "
    told += "python -m study sync some --tracking-uri http://host:5000"
    assert capsys.readouterr().out.splitlines()[-1] == told
    note_sent(folder, "http://host:5000", {trial_id: attempts[trial_id] for trial_id in others})
    assert main(["sync", "some", "--tracking-uri", uri()]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "3 of 3 ended trials were sent to http://host:5000 before"
    assert main(["sync", "some", "--tracking-uri", "http://user:***@host:5000"]) == 2
    assert "was printed with *** for what is secret; give that" in capsys.readouterr().err


def test_while_a_study_is_run_its_driver_sends(folder, trials):
    note_sent(folder, uri(), {trials[0].trial_id: "another"})
    console = Console(file=io.StringIO(), width=200)
    with FileLock(folder.driver_lock):
        thread = threading.Thread(target=show_status, args=(folder.storage, "some", False, console))
        thread.start()
        thread.join()
    told = console.file.getvalue()
    assert f"Ended trials sent to {uri()}: all but 3\n" in told
    assert "study sync" not in told


def test_a_trial_that_went_on_is_sent_anew_and_others_stay(folder, trials, capsys):
    main(["sync", "some", "--tracking-uri", uri()])
    before = {run.data.tags["trial_id"]: run.info.run_id for run in runs()}
    write_record(folder, trials[2])
    write_record(folder, trials[3])
    capsys.readouterr()
    assert status(capsys)["unsent"] == {uri(): 2}
    assert main(["sync", "some", "--tracking-uri", uri()]) == 0
    after = {run.data.tags["trial_id"]: run for run in runs()}
    assert len(runs()) == 4
    assert {run.info.status for run in after.values()} == {"FINISHED"}
    assert after[trials[0].trial_id].info.run_id == before[trials[0].trial_id]
    assert after[trials[2].trial_id].info.run_id != before[trials[2].trial_id]


def test_a_trial_that_was_trained_anew_replaces_its_run(folder, make_trial, capsys):
    trial = make_trial()
    for _ in range(2):
        folder.record_path(trial.trial_id).unlink(missing_ok=True)  # to be trained again, by other code
        write_record(folder, trial)
        for _ in range(2):
            assert main(["sync", "some", "--tracking-uri", uri()]) == 0
        (run,) = runs()
        attempt = read_start(folder.record_path(trial.trial_id))["attempt"]
        assert run.data.tags["attempt"] == attempt
        assert read_sent(folder)[uri()] == {trial.trial_id: attempt}


def test_a_record_that_was_cut_off_after_it_was_sent_is_told(folder, make_trial, capsys):
    trial = make_trial()
    write_record(folder, trial)
    assert main(["sync", "some", "--tracking-uri", uri()]) == 0
    record = folder.record_path(trial.trial_id)
    record.write_bytes(b"".join(record.read_bytes().splitlines(keepends=True)[:2]))
    capsys.readouterr()
    assert main(["status", "some"]) == 0
    assert f"cut off: {trial.name}: its record ends after epoch 0 of 2, MLflow has all of it" in capsys.readouterr().out
    (run,) = runs()
    assert main(["sync", "some", "--tracking-uri", uri()]) == 0
    assert [again.info.run_id for again in runs()] == [run.info.run_id]


def test_a_study_that_is_being_run_is_not_sent_by_another(folder, trials, capsys):
    with FileLock(folder.driver_lock):
        (folder.path / "driver").write_text(f"process 7 on {socket.gethostname()}\n")
        assert main(["sync", "some", "--tracking-uri", uri()]) == 2
    assert "study 'some' is being run by process 7 on " in capsys.readouterr().err


def test_a_file_system_without_locks_is_one_line(folder, trials, capsys, monkeypatch):
    for code in (errno.ENOSYS, errno.ENOLCK):

        def refuse(*_, code=code):
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(fcntl, "flock", refuse)
        assert main(["sync", "some", "--tracking-uri", uri()]) == 2
        assert "is on a file system without locks" in capsys.readouterr().err


def test_a_lock_that_may_not_be_taken_is_not_blamed_on_the_file_system(folder, trials, capsys):
    folder.tracking_lock.mkdir()  # root may write any file, but nobody a folder
    assert main(["sync", "some", "--tracking-uri", uri()]) == 2
    message = capsys.readouterr().err
    assert f"storage: cannot lock {folder.tracking_lock} (Is a directory)" in message
    assert "without locks" not in message


def test_a_ledger_that_cannot_be_written_is_told_and_nothing_is_lost(folder, trials, capsys):
    (folder.path / "sent.jsonl").mkdir()
    assert main(["sync", "some", "--tracking-uri", uri()]) == 0
    output = capsys.readouterr().out
    assert "4 of 4 records are in MLflow" in output
    assert "`status` will not know what was sent" in output


def test_records_of_two_data_sets_are_refused(folder, trials, make_trial, capsys, monkeypatch):
    monkeypatch.setitem(DATA, "data_checksum", "2")
    write_record(folder, make_trial(seed=9))
    assert main(["sync", "some", "--tracking-uri", uri()]) == 2
    assert "choose another --name" in capsys.readouterr().err


def test_ledgers_pass_over_lines_that_a_crash_cut_off(folder, make_trial):
    trials = [make_trial(seed=seed) for seed in range(3)]
    note_planned(folder, trials[:2])
    path = folder.path / "plan.jsonl"
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        note_planned(folder, trials)
        assert list(read_planned(folder)) == [trial.trial_id for trial in trials] or length > 0
        assert set(read_planned(folder)) == {trial.trial_id for trial in trials}
    note_sent(folder, "there", {"a": "first"})
    with (folder.path / "sent.jsonl").open("a") as file:
        file.write('{"store": "th')
    note_sent(folder, "there", {"a": "second", "b": "first"})
    assert read_sent(folder) == {"there": {"a": "second", "b": "first"}}


def test_a_trial_is_known_as_sent_as_long_as_its_record_is_of_that_attempt(folder, trials):
    names = [trial.trial_id for trial in trials]
    attempts = {name: trial_record.read_start(folder.record_path(name))["attempt"] for name in names[:3]}
    note_sent(folder, "there", attempts)
    assert known_as_sent(folder, "there", names) == set(names[:3])
    assert known_as_sent(folder, "elsewhere", names) == set()
    write_record(folder, trials[2])  # once more
    assert known_as_sent(folder, "there", names) == set(names[:2])


def test_time_in_mlflow_never_goes_back(folder, make_trial, monkeypatch):
    clock = iter([9, 5, 7, 1, 8, 2])
    with monkeypatch.context() as patch:
        patch.setattr(trial_record.time, "time_ns", lambda: next(clock) * 10**9)
        write_record(folder, make_trial())
    assert main(["sync", "some", "--tracking-uri", uri()]) == 0
    (run,) = runs()
    points = mlflow.MlflowClient(uri()).get_metric_history(run.info.run_id, schema.TRAIN_ERROR)
    times = [point.timestamp for point in sorted(points, key=lambda point: point.step)]
    assert times == [9000, 9000, 9000]
    assert run.info.start_time <= times[0]
    assert run.info.end_time >= times[-1]


def test_states_are_read_in_the_order_of_the_plan(folder, trials):
    assert [state.trial_id for state in read_states(folder)] == [trial.trial_id for trial in trials]
    assert Path(folder.path / "plan.jsonl").read_bytes().count(b"\n") == 5
