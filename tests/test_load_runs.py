"""Stores written by the study's own code → frames: complete, checked, and read once."""

import shutil

import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException

from analysis import load_runs, load_study
from benchmarks.simulated_study import UNFINISHED, simulate_trial, write_store
from search_spaces.axes import grid
from study import run_log_schema as schema
from study.tracking_uri import home_tracking_uri

pytestmark = pytest.mark.filterwarnings("ignore")  # mlflow's own

TRIALS = grid(depth=[3, 6], seed=[0, 1, 2], epochs=2)
STATUSES = {
    TRIALS[0].trial_id: schema.STATUS_DIVERGED,
    TRIALS[1].trial_id: schema.STATUS_FAILED,
    TRIALS[2].trial_id: UNFINISHED,
}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A storage with two studies, and its URI."""
    storage = tmp_path_factory.mktemp("studies")
    write_store(storage, "other", grid(depth=4, epochs=1))
    return storage, write_store(storage, "some", TRIALS, STATUSES)


@pytest.fixture
def uri(written, tmp_path, monkeypatch):
    """The same, with a cache of its own."""
    monkeypatch.setenv("ANALYSIS_CACHE", str(tmp_path / "cache"))
    return written[1]


@pytest.fixture
def reads(monkeypatch):
    """The artifacts that were read, in order."""
    seen, fetch = [], load_runs._fetch

    def noted(client, run, artifact, folder):
        seen.append(artifact)
        return fetch(client, run, artifact, folder)

    monkeypatch.setattr(load_runs, "_fetch", noted)
    return seen


def assert_same_frames(one, other):
    for name in ("trials", "epochs", "layers"):
        first, second = (getattr(frames, name) for frames in (one, other))
        keys = [column for column in ("run_id", "epoch", "layer") if column in first]
        pd.testing.assert_frame_equal(
            first.sort_values(keys, ignore_index=True), second.sort_values(keys, ignore_index=True)
        )


def test_everything_that_was_measured_is_there(uri):
    frames = load_study("some", uri)
    assert frames.trials["status"].value_counts().to_dict() == {"ok": 3, "diverged": 1, "failed": 1, "unfinished": 1}
    assert frames.trials.set_index("trial_id")["depth"].to_dict() == {trial.trial_id: trial.depth for trial in TRIALS}
    run_ids = frames.trials.set_index("trial_id")["run_id"]
    for trial in TRIALS[3:]:
        measured = list(simulate_trial(trial))
        epochs = frames.epochs[frames.epochs["run_id"] == run_ids[trial.trial_id]]
        assert epochs[schema.TRAIN_ERROR].tolist() == [epoch.metrics[schema.TRAIN_ERROR] for epoch in measured]
        layers = frames.layers[frames.layers["run_id"] == run_ids[trial.trial_id]][list(schema.LAYER_COLUMNS)]
        expected = np.array([row for epoch in measured for row in epoch.layers], dtype=float)
        np.testing.assert_array_equal(layers.to_numpy(), expected)
    assert frames.epochs.dtypes.drop("run_id").eq(float).all()
    assert len(load_study("other", uri).trials) == 1


def test_an_ended_run_is_read_once_and_gives_the_same_again(uri, reads):
    first = load_study("some", uri)
    assert sorted(set(reads)) == [schema.GSC_TABLE, schema.HISTORY_TABLE]
    assert len(reads) == 2 * 5
    reads.clear()
    assert_same_frames(first, load_study("some", uri))
    assert reads == []


def test_a_run_that_ended_again_is_read_again(uri, reads):
    load_study("some", uri)
    reads.clear()
    client = load_runs.make_client(uri)
    run = load_runs.find_trial_runs(client, load_runs.find_experiment(client, "some"))[0]
    client.set_terminated(run.info.run_id, end_time=(run.info.end_time or 0) + 1)
    load_study("some", uri)
    assert len(reads) == 2


def test_a_damaged_cache_is_read_anew(uri, reads, tmp_path):
    first = load_study("some", uri)
    for path in (tmp_path / "cache").iterdir():
        path.write_bytes(path.read_bytes()[:-3])
    reads.clear()
    assert_same_frames(first, load_study("some", uri))
    assert len(reads) == 2 * 5


def copy_with(written, tmp_path, spoil):
    """A copy of the storage whose artifacts are spoilt; its database still points there."""
    storage = tmp_path / "copy"
    shutil.copytree(written[0], storage)
    uri = home_tracking_uri(storage)
    client = load_runs.make_client(uri)
    for run in load_runs.find_trial_runs(client, load_runs.find_experiment(client, "some")):
        spoil(storage / schema.ARTIFACT_FOLDER / "some" / run.info.run_id / "artifacts")
    return uri


def redirect(monkeypatch, written, tmp_path):
    """Read a copy's own artifacts, not those of the storage that its database was copied from."""
    fetch = load_runs._fetch
    old, new = str(written[0].resolve()), str((tmp_path / "copy").resolve())
    monkeypatch.setattr(load_runs, "_fetch", lambda *arguments: fetch(*arguments).replace(old, new))


@pytest.mark.parametrize("damage", ["lost", "cut off"])
def test_metrics_stand_for_a_table_that_is_lost(written, uri, tmp_path, monkeypatch, damage):
    whole = load_study("some", uri)

    def spoil(folder):
        path = folder / schema.HISTORY_TABLE
        if path.exists():
            path.unlink() if damage == "lost" else path.write_bytes(path.read_bytes()[:100])

    copy = copy_with(written, tmp_path, spoil)
    redirect(monkeypatch, written, tmp_path)
    for _ in range(2):  # what was made up for is not kept as if it were whole
        frames = load_study("some", copy)
        assert len(frames.incomplete) == 5
        pd.testing.assert_frame_equal(frames.trials, whole.trials)
        assert len(frames.layers) == len(whole.layers)  # only what is lost is made up for


def test_a_store_that_fails_is_not_taken_for_a_lost_table(uri, monkeypatch):
    def refuse(*_):
        raise PermissionError("Permission denied")

    monkeypatch.setattr(load_runs, "_fetch", refuse)
    with pytest.raises(ValueError, match=r"tracking-uri: sqlite:.* fails \(Permission denied\); try again"):
        load_study("some", uri)


def test_a_table_that_a_store_does_not_list_is_lost(uri, monkeypatch):
    def miss(*_):
        raise MlflowException("404")

    monkeypatch.setattr(load_runs, "_fetch", miss)
    monkeypatch.setattr(load_runs.mlflow.MlflowClient, "list_artifacts", lambda *_: [])
    assert len(load_study("some", uri).incomplete) == 5


def test_of_several_runs_the_complete_one_is_read(written, uri, tmp_path):
    copy = copy_with(written, tmp_path, lambda folder: None)
    client = load_runs.make_client(copy)
    experiment = load_runs.find_experiment(client, "some")
    tags = {schema.TAG_TRIAL_ID: TRIALS[3].trial_id, schema.TAG_STATUS: schema.STATUS_FAILED}
    failed = client.create_run(experiment.experiment_id, tags=tags, start_time=2**42).info.run_id
    client.set_terminated(failed, status="FAILED")
    found = {run.data.tags[schema.TAG_TRIAL_ID]: run for run in load_runs.find_trial_runs(client, experiment)}
    assert found[TRIALS[3].trial_id].data.tags[schema.TAG_STATUS] == schema.STATUS_OK


@pytest.mark.parametrize("at_once", [False, True])
def test_a_run_that_is_deleted_between_pages_hides_no_other(written, uri, tmp_path, monkeypatch, at_once):
    client = load_runs.make_client(copy_with(written, tmp_path, lambda folder: None))
    experiment = client.create_experiment("paged")
    runs = [client.create_run(experiment, start_time=5 if at_once else number).info.run_id for number in range(9)]
    original, pages = client.search_runs, []

    def search(*arguments, max_results, **options):
        pages.append(arguments)
        if len(pages) == 2 and not at_once:
            client.delete_run(runs[-1])
        return original(*arguments, max_results=3, **options)

    monkeypatch.setattr(client, "search_runs", search)
    found = [run.info.run_id for run in load_runs._search_runs(client, client.get_experiment(experiment))]
    assert sorted(found) == sorted(runs)


def test_odd_runs_are_named(written, uri):
    client = load_runs.make_client(uri)
    experiment = client.create_experiment("odd")
    client.set_experiment_tag(experiment, schema.TAG_DATA, "synthetic")
    tags = {schema.TAG_TRIAL_ID: "1", schema.TAG_STATUS: schema.STATUS_FAILED}
    run = client.create_run(experiment, tags=tags, run_name="odd one").info.run_id
    with pytest.raises(ValueError, match=r"study: run odd one .* lacks parameter 'depth'; delete that run"):
        load_study("odd", uri)
    client.log_param(run, "depth", "deep")
    with pytest.raises(ValueError, match=r"parameter 'depth' of run odd one .* is 'deep', not int; delete that run"):
        load_study("odd", uri)
