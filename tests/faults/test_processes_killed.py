"""A study whose driver, workers or nodes are killed at random ends with the same bytes as one that nobody disturbs."""

import contextlib
import os
import random
import time

import psutil
import pytest

from tests.faults import studies

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(3600)]
TRIALS = 8
SEED = 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return studies.make_folder(tmp_path_factory.mktemp("user"))


@pytest.fixture(scope="module")
def timed(folder):
    """The numbers of an undisturbed study, the seconds until its first epochs were recorded, and those after that."""
    place, started = studies.study_folder(folder, "undisturbed"), time.monotonic()
    driver = studies.start(folder, "study_of_minutes", "--name", "undisturbed", "--max-pack", "3")
    studies.wait_for(lambda: studies.epochs_recorded(place) > 3, 300)
    first = time.monotonic() - started
    studies.finish(driver)
    whole = time.monotonic() - started
    print(f"\nundisturbed: first epochs after {first:.0f} s, all done after {whole:.0f} s")
    studies.expect_whole(place, studies.store(folder), TRIALS)
    return studies.numbers(place), first, whole - first


@pytest.fixture
def undisturbed(timed):
    return timed[0]


def conclude(folder, name, undisturbed, kills, started):
    place = studies.study_folder(folder, name)
    points = studies.expect_whole(place, studies.store(folder), TRIALS)
    assert studies.numbers(place) == undisturbed
    attempts = [lines[0]["attempts"] for lines in studies.records(place).values()]
    print(
        f"\n{name}: {kills} kills in {time.monotonic() - started:.0f} s; {TRIALS} trials, each with one finished run; "
        f"{points} metric points in MLflow as recorded; attempts per trial {min(attempts)} to {max(attempts)}; "
        "all numbers equal the undisturbed study's"
    )


def test_driver_killed_at_20_random_moments(folder, timed):
    undisturbed, first, training = timed
    moments, kills, leftovers, started = random.Random(SEED), 0, 0, time.monotonic()
    place = studies.study_folder(folder, "driver-killed")
    while kills < 20:
        driver = studies.start(folder, "study_of_minutes", "--name", "driver-killed", "--max-pack", "4")
        if kills % 3 == 0:  # before and while Ray starts
            time.sleep(moments.uniform(0, first))
        else:  # in training
            before = studies.epochs_recorded(place)
            studies.wait_for(lambda before=before: studies.epochs_recorded(place) > before, 300)
            time.sleep(moments.uniform(0, min(5.0, training / 30)))  # or a fast machine is done before the last kill
        below = studies.children(driver)
        assert driver.poll() is None, "the study ended before its driver was killed often enough"
        driver.kill()
        driver.communicate()
        kills += 1
        leftovers += studies.end_leftovers(below)
        print(f"kill {kills}: {studies.epochs_recorded(place)} epochs recorded")
    studies.finish(studies.start(folder, "study_of_minutes", "--name", "driver-killed", "--max-pack", "2"))
    conclude(folder, "driver-killed", undisturbed, kills, started)
    print(f"processes left behind by killed drivers for over 5 s: {leftovers}")


def test_20_workers_killed(folder, undisturbed):
    moments, kills, started = random.Random(SEED), 0, time.monotonic()
    driver = studies.start(folder, "study_of_minutes", "--name", "workers-killed", "--max-pack", "4")
    place = studies.study_folder(folder, "workers-killed")
    while kills < 20:
        # A trial whose worker is lost three times before it gets anywhere is taken for the cause, and fails.
        before = studies.epochs_recorded(place)
        studies.wait_for(lambda before=before: studies.epochs_recorded(place) > before + 20, 240)
        time.sleep(moments.uniform(0, 4))
        assert driver.poll() is None, "the study ended before its workers were killed often enough"
        workers = studies.train_workers(driver)
        if workers:
            with contextlib.suppress(psutil.NoSuchProcess):
                moments.choice(workers).kill()
                kills += 1
    studies.finish(driver)
    conclude(folder, "workers-killed", undisturbed, kills, started)


def test_a_node_of_three_lost_5_times(folder, undisturbed, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "0")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(studies.ROOT), os.environ.get("PYTHONPATH", "")]))
    from ray.cluster_utils import Cluster

    moments, started = random.Random(SEED), time.monotonic()
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
        driver = studies.start(
            folder,
            "study_of_minutes",
            "--name",
            "nodes-lost",
            "--max-pack",
            "4",
            "--address",
            cluster.address,
            "--device",
            "cpu",
        )
        place = studies.study_folder(folder, "nodes-lost")
        for loss in range(5):
            before = studies.epochs_recorded(place)
            studies.wait_for(lambda before=before: studies.epochs_recorded(place) > before + 5, 240)
            time.sleep(moments.uniform(0, 2))
            assert driver.poll() is None, "the study ended before enough nodes were lost"
            lost = nodes.pop(moments.randrange(2))
            cluster.remove_node(lost, allow_graceful=False)
            nodes.append(cluster.add_node(num_cpus=1))
            print(f"node {loss + 1} lost after {studies.epochs_recorded(place)} epochs")
        studies.finish(driver)
    finally:
        cluster.shutdown()
    conclude(folder, "nodes-lost", undisturbed, 5, started)
