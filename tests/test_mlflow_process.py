"""MLflow's process: what it is told arrives, what goes wrong there is told here, and it never outlives the driver."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from study.mlflow_process import LOST, MlflowProcess, SendLater
from study.run_log import RunLog
from study.tracking import Connection
from study.trial_record import TrialRecord

pytestmark = pytest.mark.filterwarnings("ignore")  # mlflow's own
DATA = {"data": "synthetic", "data_checksum": "1", "chance_error": "0.9"}


DRIVER = f"""
import multiprocessing, sys, time
from pathlib import Path
from study.mlflow_process import MlflowProcess
from study.study_folder import StudyFolder
process = MlflowProcess(sys.argv[1], StudyFolder(Path(sys.argv[2]), "some")).__enter__()
process.ask({DATA}, epochs=1)
process.close()
print(*[child.pid for child in multiprocessing.active_children()], flush=True)
time.sleep(60)
"""


@pytest.fixture
def uri(tmp_path):
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


@pytest.fixture
def trial_id(folder, make_trial):
    trial = make_trial()
    record = TrialRecord(folder.record_path(trial.trial_id), trial, "pack", DATA)
    record.end("ok")
    return trial.trial_id


def test_what_is_sent_is_known_as_finished_in_the_next_study(uri, folder, trial_id):
    with MlflowProcess(uri, folder) as process:
        process.ask(DATA, epochs=1)
        assert process.wait_for_finished() == {}
        process.send([trial_id])
        outcome = process.close()
    assert list(outcome.sent) == [trial_id]
    assert (outcome.unsent, outcome.problem) == ([], None)
    assert outcome.experiment_id == RunLog(uri, folder, DATA, epochs=1).experiment_id
    with MlflowProcess(uri, folder) as process:
        process.ask(DATA, epochs=1)
        assert process.wait_for_finished() == {trial_id: "ok"}
    assert multiprocessing.active_children() == []


def test_what_the_process_finds_wrong_is_raised_here(uri, folder, tmp_path):
    Connection(uri, folder, DATA, epochs=1, at_once=False).open()
    with MlflowProcess(uri, folder) as process:
        process.ask({**DATA, "data_checksum": "2"}, epochs=1)
        with pytest.raises(ValueError, match="was run on synthetic"):
            process.wait_for_finished()
    (tmp_path / "text").write_text("no database, but a file that can be written")
    unusable = pytest.raises(ValueError, match=r"cannot be used .*, or put it off with --send-later")
    with MlflowProcess(f"sqlite:///{tmp_path / 'text'}", folder) as process, unusable:
        process.check()
    with pytest.raises(ValueError, match=r"does not answer .*, or put it off with --send-later"):
        MlflowProcess("http://127.0.0.1:9", folder)


def test_a_database_that_is_refused_once_somebody_has_made_it_is_told_in_the_end(uri, folder, trial_id):
    with MlflowProcess(uri, folder) as process:
        Connection(uri, folder, {**DATA, "data_checksum": "2"}, epochs=1, at_once=False).open()
        process.check()
        process.ask(DATA, epochs=1)
        assert process.wait_for_finished() == {}
        process.send([trial_id])
        outcome = process.close()
    assert outcome.unsent == [trial_id]
    assert "was run on synthetic" in (outcome.problem or "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_to_a_whole_group_are_left_to_the_driver(uri, folder, trial_id, number):
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    with MlflowProcess(uri, folder) as process:
        assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before
        for child in multiprocessing.active_children():
            os.kill(child.pid, number)
        process.ask(DATA, epochs=1)
        process.send([trial_id])
        assert list(process.close().sent) == [trial_id]


def refuse_while_tables_are_made(uri, folder, growing):
    with MlflowProcess(uri, folder):
        deadline = time.monotonic() + 60
        while not any(path.stat().st_size for path in growing.rglob("*.db")):
            assert time.monotonic() < deadline, "no table was made"
            time.sleep(0.001)
        raise KeyError


@pytest.mark.parametrize("elsewhere", ["temporary", "temporary?"])  # with the second one, they are made in place
def test_a_refusal_while_tables_are_made_leaves_a_database_that_can_be_used(tmp_path, folder, monkeypatch, elsewhere):
    temporary = tmp_path / elsewhere
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache of a user who has made none"))
    monkeypatch.chdir(tmp_path)
    uri = f"sqlite:///{len(elsewhere)}.db"  # which is relative, so that it is not left for later
    with pytest.raises(KeyError):
        refuse_while_tables_are_made(uri, folder, tmp_path if "?" in elsewhere else temporary)
    assert list(temporary.iterdir()) == []
    assert RunLog(uri, folder, DATA, epochs=1).find_runs() == {}


def test_a_process_that_was_started_when_ctrl_c_came_is_not_left(uri, folder, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    process = MlflowProcess(uri, folder)
    original = process._submit
    monkeypatch.setattr(process, "_submit", lambda method: original(method) and interrupt())
    with pytest.raises(KeyboardInterrupt):
        process.__enter__()
    assert multiprocessing.active_children() == []


def test_a_script_without_a_main_guard_is_not_run_twice(uri, folder, tmp_path):
    script = tmp_path / "script.py"
    script.write_text("print('once')\n" + DRIVER.replace("time.sleep(60)", "process.__exit__()"))
    done = subprocess.run(
        [sys.executable, script, uri, folder.storage], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.count("once") == 1
    assert done.stderr == ""


def kill_children():
    for child in multiprocessing.active_children():
        child.kill()


def test_a_lost_process_is_told_and_its_trials_are_left_to_be_sent(uri, folder, trial_id):
    Connection(uri, folder, DATA, epochs=1, at_once=False).open()
    with MlflowProcess(uri, folder) as process:
        process.ask(DATA, epochs=1)
        process.wait_for_finished()
        kill_children()
        process.send([trial_id])
        process.hurry()
        deadline = time.monotonic() + 20
        while process.problem != LOST and time.monotonic() < deadline:
            time.sleep(0.01)
        assert process.problem == LOST
        outcome = process.close()
    assert (outcome.sent, outcome.unsent) == ({}, [trial_id])
    assert outcome.problem == f"{LOST}, so some of them may be there"
    with MlflowProcess(uri, folder) as process:
        process.ask(DATA, epochs=1)
        kill_children()
        with pytest.raises(ValueError, match=LOST):
            process.wait_for_finished()
        with pytest.raises(ValueError, match=LOST):
            process.check()


def test_it_ends_with_a_driver_that_is_killed(uri, folder):
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, uri, str(folder.storage)], stdout=subprocess.PIPE, text=True
    )
    (process,) = [psutil.Process(int(pid)) for pid in driver.stdout.readline().split()]
    driver.kill()
    driver.communicate()
    process.wait(timeout=20)


def test_what_is_put_off_is_counted():
    with SendLater() as later:
        later.ask(DATA, epochs=1)
        assert later.wait_for_finished() == {}
        later.send(["b", "a"])
        later.send(["a"], ended=False)
        later.hurry()
        assert later.problem is None
        outcome = later.close()
    assert (outcome.sent, outcome.unsent, outcome.experiment_id) == ({}, ["a", "b"], None)
