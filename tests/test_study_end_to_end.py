"""A whole study as a user runs it: the command, its output, MLflow, the report, Ctrl-C, failures."""

import collections
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import pandas as pd
import psutil
import pytest

from study import run_log_schema as schema
from study.trial_record import read_lines

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(280)]  # warnings: mlflow's own
ROOT = Path(__file__).parent.parent
SMALL = "width=8, batch_size=32, probe_size=16, probe_vectors=2"
SPACES = f"""
from search_spaces.axes import grid

def tiny():
    good = grid(depth=[3, 6], dilution=[0, 1], normalization="batch", epochs=2, seed=[0, 1], {SMALL})
    return good + grid(depth=3, optimizer="sgd", learning_rate=1e30, epochs=2, {SMALL})

def long():
    return grid(depth=[3, 20, 40], seed=[0, 1], epochs=24, {SMALL})

def failing():
    return grid(depth=3, epochs=1, {SMALL}) + grid(depth=3, epochs=1, width=10**9, batch_size=32, probe_size=16)
"""


def command(folder, module, *arguments):
    return [sys.executable, "-m", module, *arguments]


def environment():
    kept = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    return {**kept, "PYTHONPATH": str(ROOT), "COLUMNS": "140"}


def run(folder, module, *arguments, status=0):
    done = subprocess.run(
        command(folder, module, *arguments), cwd=folder, env=environment(), capture_output=True, text=True, timeout=250
    )
    print(done.stdout, done.stderr)  # shown when something fails later
    assert done.returncode == status
    assert "Traceback" not in done.stderr
    return done


def study(folder, space, *options, status=0):
    return run(folder, "study", "run", f"spaces.py:{space}", "--data", "synthetic:200", *options, status=status)


def client(folder):
    return mlflow.MlflowClient(f"sqlite:///{folder}/studies/mlflow.db")


def runs_of(folder, name, view=mlflow.entities.ViewType.ACTIVE_ONLY):
    tracking = client(folder)
    experiment = tracking.get_experiment_by_name(name)
    return tracking.search_runs([experiment.experiment_id], run_view_type=view, max_results=1000)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("user")
    (folder / "spaces.py").write_text(SPACES)
    return folder


@pytest.fixture(scope="module")
def finished(folder):
    return study(folder, "tiny", "--max-pack", "3")


def test_the_output_is_ours_alone(finished):
    assert finished.stderr == ""
    expected = (
        r"Study tiny: 9 trials, 0 of them finished before\.",
        r"Starting Ray …",
        r"packs \d/\d done · trials \d/9 done · .*",
        r"Final test error, mean over seeds at the learning rate with the lowest training error:",
        r"( +depth)+",
        r"network +optimizer +k( +\d+)+",
        r"─+",
        r"[a-z]+-[a-z]+ +(adam|sgd) +[\d.]+( +[\w.]+)+",
        r"9 trials: 8 ok, 1 diverged, 0 failed\.",
        r"Records: .*",
        r"Browse: make ui, then open",
        r"Report: python -m analysis report tiny",
        r"http://127\.0\.0\.1:5000/#/experiments/1/runs\?workflowType=machine_learning&.*",
    )
    for line in finished.stdout.splitlines():
        assert any(re.fullmatch(pattern, line.rstrip()) for pattern in expected), line


def test_every_trial_is_one_complete_run(finished, folder):
    runs = runs_of(folder, "tiny")
    assert len(runs) == len({run.data.tags[schema.TAG_TRIAL_ID] for run in runs}) == 9
    assert collections.Counter(run.data.tags["status"] for run in runs) == {"ok": 8, "diverged": 1}
    for run_ in runs:
        assert run_.info.status == "FINISHED"
        assert set(run_.data.params) == set(schema.PARAM_TYPES)
        for tag in (
            "trial_id",
            "study",
            "pack_id",
            "code_revision",
            "version.torch",
            "device",
            "data",
            "data_checksum",
        ):
            assert run_.data.tags[tag]
        names = {artifact.path for artifact in client(folder).list_artifacts(run_.info.run_id)}
        assert {"gsc.parquet", "history.parquet", "config.json"} <= names
        if run_.data.tags["status"] == "ok":
            assert set(schema.EPOCH_METRICS) | set(schema.FINAL_METRICS) <= set(run_.data.metrics)
            assert {schema.layer_metric(epoch) for epoch in range(3)} <= set(run_.data.metrics)
        else:
            assert not set(schema.FINAL_METRICS) & set(run_.data.metrics)
            assert schema.TEST_ERROR in run_.data.metrics  # what was measured before is kept


def test_mlflow_holds_exactly_what_was_recorded(finished, folder):
    tracking = client(folder)
    for run_ in runs_of(folder, "tiny"):
        lines = [line for line, _ in read_lines(folder / f"studies/tiny/trials/{run_.data.tags['trial_id']}.jsonl")]
        epochs = [line for line in lines if line["kind"] == "epoch"]
        for name in schema.EPOCH_METRICS:
            logged = [(m.step, m.value, m.timestamp) for m in tracking.get_metric_history(run_.info.run_id, name)]
            assert sorted(logged) == [
                (e["epoch"], e["metrics"][name], e["time_ms"]) for e in epochs if name in e["metrics"]
            ]
        assert len(epochs[0]["layers"]) == int(run_.data.params["depth"])
        for epoch in epochs:
            by_layer = tracking.get_metric_history(run_.info.run_id, schema.layer_metric(epoch["epoch"]))
            last_step = epoch["layers"][-1][0]
            of_last = [
                (layer, gsc) for step, _, layer, gsc, *_ in epoch["layers"] if step == last_step and gsc is not None
            ]
            assert sorted((m.step, m.value) for m in by_layer) == of_last
        table = pd.read_parquet(tracking.download_artifacts(run_.info.run_id, "gsc.parquet"))
        recorded = pd.DataFrame([row for epoch in epochs for row in epoch["layers"]], columns=table.columns)
        pd.testing.assert_frame_equal(table, recorded.astype(table.dtypes), check_exact=True)


def test_the_same_command_again_trains_nothing(finished, folder):
    before = sorted((run_.info.run_id, run_.info.end_time) for run_ in runs_of(folder, "tiny"))
    again = study(folder, "tiny")
    assert "9 trials, 9 of them finished before" in again.stdout
    assert "Ray" not in again.stdout
    assert sorted((run_.info.run_id, run_.info.end_time) for run_ in runs_of(folder, "tiny")) == before


def test_a_lost_tracking_database_is_filled_again_from_the_records(finished, folder):
    before = {run_.data.tags["trial_id"]: run_.data.metrics for run_ in runs_of(folder, "tiny")}
    study(folder, "tiny", "--tracking-uri", f"sqlite:///{folder}/other.db")
    other_images = ("study", "run", "spaces.py:tiny", "--data", "synthetic:210")
    refused = run(folder, *other_images, "--tracking-uri", f"sqlite:///{folder}/third.db", status=2)
    assert "was run on synthetic:200" in refused.stderr
    tracking = mlflow.MlflowClient(f"sqlite:///{folder}/other.db")
    again = tracking.search_runs([tracking.get_experiment_by_name("tiny").experiment_id])
    assert {run_.data.tags["trial_id"]: run_.data.metrics for run_ in again} == before


def test_more_trials_run_only_what_is_new(finished, folder):
    text = (folder / "spaces.py").read_text()
    (folder / "more.py").write_text(text.replace("seed=[0, 1], width=8", "seed=[0, 1, 2], width=8", 1))
    more = run(folder, "study", "run", "more.py:tiny", "--data", "synthetic:200")
    assert "13 trials, 9 of them finished before" in more.stdout
    assert len(runs_of(folder, "tiny")) == 13


def test_the_report(finished, folder):
    done = run(folder, "analysis", "report", "tiny")
    page = (folder / "reports" / "tiny" / "index.html").read_text()
    assert "1 diverged" in page
    assert "Synthetic images, not CIFAR-10" in page
    assert page.count("data:image/png;base64,") >= 4
    assert "http" not in re.sub(r"base64,[^\"]*", "", page)  # self-contained
    assert "reports/tiny/index.html" in done.stdout
    tables = {path.name for path in (folder / "reports" / "tiny").glob("*.csv")}
    assert tables >= {"trials.csv", "epochs.csv", "explosion_rates.csv", "final_errors.csv", "trainable_depth.csv"}
    (stored,) = runs_of(folder, "tiny report")
    assert "index.html" in {artifact.path for artifact in client(folder).list_artifacts(stored.info.run_id)}
    run(folder, "analysis", "run-figures", "tiny")
    for run_ in runs_of(folder, "tiny"):
        assert "gsc.png" in {artifact.path for artifact in client(folder).list_artifacts(run_.info.run_id)}


def wait_for(condition, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.1)


def recorded_lines(folder, name):
    paths = (folder / "studies" / name / "trials").glob("*.jsonl")
    return [line for path in paths for line, _ in read_lines(path)]


def recorded_kinds(folder, name):
    return collections.Counter(line["kind"] for line in recorded_lines(folder, name))


def some_went_on(folder, name):
    """Say whether a trial was trained to its end from a checkpoint, not from its beginning."""
    return any(line["resume_epoch"] > 0 for line in recorded_lines(folder, name) if line["kind"] == "start")


def numbers(folder, name):
    """Every metric of every trial but the times."""
    return {
        run_.data.tags["trial_id"]: {
            key: value for key, value in run_.data.metrics.items() if not key.startswith("time/")
        }
        for run_ in runs_of(folder, name)
    }


def interrupt(folder, name, after_epochs, stop):
    """Start the long study, stop it by calling `stop` with its process after some epochs of its own."""
    earlier = {line["attempt"] for line in recorded_lines(folder, name)}

    def epochs():
        lines = recorded_lines(folder, name)
        kept = {line["attempt"]: line["resume_epoch"] for line in lines if line["kind"] == "start"}
        own = [line for line in lines if line["kind"] == "epoch" and line["attempt"] not in earlier]
        return sum(line["epoch"] > kept.get(line["attempt"], 0) for line in own)

    options = ("run", "spaces.py:long", "--data", "synthetic:200", "--max-pack", "2", "--name", name)
    options += ("--checkpoint-seconds", "0")
    started = subprocess.Popen(
        command(folder, "study", *options), cwd=folder, env=environment(), stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    wait_for(lambda: epochs() > after_epochs)
    stop(started)
    output, errors = started.communicate(timeout=60)
    assert started.returncode == 130, output + errors
    assert "Interrupted. The same command goes on where this one stopped." in output
    assert errors == ""


def test_ctrl_c_and_the_same_command_again(folder):
    interrupt(folder, "long", 20, lambda driver: os.killpg(driver.pid, signal.SIGINT))  # as a terminal does
    assert recorded_kinds(folder, "long")["end"] < 6
    interrupt(folder, "long", 20, lambda driver: driver.terminate())  # as a batch system does
    assert "RUNNING" not in {run_.info.status for run_ in runs_of(folder, "long")}
    study(folder, "long", "--max-pack", "2")
    assert some_went_on(folder, "long")
    runs = runs_of(folder, "long")
    assert len(runs) == len({run_.data.tags["trial_id"] for run_ in runs}) == 6
    assert {run_.info.status for run_ in runs} == {"FINISHED"}
    study(folder, "long", "--name", "undisturbed")
    assert numbers(folder, "long") == numbers(folder, "undisturbed")


def worker_processes(driver):
    """Ray's workers that train a pack of this driver now."""
    children = psutil.Process(driver).children(recursive=True)
    return [child for child in children if re.match(r"ray::\w+\.train", " ".join(child.cmdline()))]


def test_a_killed_worker_is_replaced_and_nothing_is_counted_twice(folder):
    started = subprocess.Popen(
        command(
            folder, "study", "run", "spaces.py:long", "--data", "synthetic:200", "--name", "killed",
            "--checkpoint-seconds", "0",
        ),
        cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    wait_for(lambda: recorded_kinds(folder, "killed")["epoch"] > 10)
    victims = worker_processes(started.pid)
    assert victims
    for victim in victims:
        victim.kill()
    output, errors = started.communicate(timeout=200)
    assert started.returncode == 0, output + errors
    assert errors == ""
    assert some_went_on(folder, "killed")
    runs = runs_of(folder, "killed")
    assert len(runs) == len({run_.data.tags["trial_id"] for run_ in runs}) == 6
    assert {run_.info.status for run_ in runs} == {"FINISHED"}
    for run_ in runs:
        history = client(folder).get_metric_history(run_.info.run_id, schema.TRAIN_LOSS)
        assert sorted(point.step for point in history) == list(range(25))


def test_a_failing_trial_is_told_and_the_others_finish(folder, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")  # which every worker notices, and is told once
    done = study(folder, "failing", status=1)
    assert done.stdout.count("Slow: kernels are not compiled, and a step takes") == 1
    assert "no C++ compiler: no-such-compiler is not found" in done.stdout
    assert "2 trials: 1 ok, 0 diverged, 1 failed." in done.stdout
    assert "First failure, none-relu d3 k0 adam lr3e-4 s0" in done.stdout
    failed = next(run_ for run_ in runs_of(folder, "failing") if run_.info.status == "FAILED")
    assert "Traceback" in failed.data.tags[schema.TAG_ERROR]
    again = study(folder, "failing", status=1)
    assert "1 of them finished before" in again.stdout
    assert len(runs_of(folder, "failing")) == 2


def test_gsc_command_prints_json_alone(folder):
    done = run(folder, "study", "gsc", "--depth", "5", "--seeds", "2", "--batch", "20", "--format", "json")
    assert done.stderr == ""
    assert json.loads(done.stdout)["seeds"] == 2
