"""A process that trains a pack, killed (SIGKILL) at 20 random moments: every epoch once, and the same bytes."""

import os
import random
import signal
import time

import pytest

from study import run_log_schema as schema
from study.pack_training import PackTraining
from study.packing import Pack
from study.study_folder import StudyFolder
from study.trial_record import read_lines, read_start, read_status

pytestmark = pytest.mark.slow
KILLS = 20


def train(trials, dataset, folder, sweep_id):
    PackTraining(Pack(tuple(trials)), dataset, folder, "cpu", lambda _: None, sweep_id, 0.0).run()


def numbers(folder, trial):
    rows = []
    for line, _ in read_lines(folder.record_path(trial.trial_id)):
        metrics = {name: value for name, value in line.get("metrics", {}).items() if name != schema.EPOCH_SECONDS}
        rows.append((line["kind"], line.get("epoch"), metrics, line.get("layers"), line.get("status")))
    return rows


@pytest.mark.parametrize("normalization", ["none", "batch"])
def test_killed_at_20_random_moments(make_trial, small_dataset, tmp_path, normalization):
    trials = [make_trial(seed=seed, epochs=30, normalization=normalization, depth=3) for seed in range(3)]
    calm, killed = StudyFolder(tmp_path, "calm"), StudyFolder(tmp_path, "killed")
    for folder in (calm, killed):
        folder.create()
    started = time.monotonic()
    train(trials, small_dataset, calm, "calm")
    whole, moments, kills = time.monotonic() - started, random.Random(20), 0
    while kills < KILLS:
        child = os.fork()
        if not child:
            try:
                # As the next sweep does, in whatever order and company.
                train(random.Random(kills).sample(trials, 3), small_dataset, killed, f"sweep {kills}")
            finally:
                os._exit(0)
        time.sleep(moments.uniform(0, whole / 12))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        kills += os.WIFSIGNALED(status)
        if not os.WIFSIGNALED(status):
            break  # done before it could be killed often enough: then the next line says so
    assert kills == KILLS
    killed.remove_leftovers(ended=set())
    train(trials, small_dataset, killed, "last")
    for trial in trials:
        assert read_status(killed.record_path(trial.trial_id)) == schema.STATUS_OK
        assert numbers(killed, trial) == numbers(calm, trial)
        assert [row[1] for row in numbers(killed, trial)][1:-1] == list(range(31))
        assert read_start(killed.record_path(trial.trial_id))["attempts"] > 1
    assert not list(killed.path.glob("checkpoints/*"))
    assert not list(killed.path.glob("*/*.part"))
