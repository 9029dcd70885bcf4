"""Ray's own faults: its memory monitor at work, and its processes killed under the driver."""

import os
import subprocess
import sys
import time

import psutil
import pytest

from tests.faults import studies

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(1200)]
HOG = "import sys, time; held = bytearray(int(sys.argv[1])); held[::4096] = b'x' * len(held[::4096]); time.sleep(4)"


@pytest.fixture
def folder(tmp_path):
    return studies.make_folder(tmp_path / "user")


def test_the_memory_monitor_is_survived_where_it_is_on(folder, monkeypatch):
    memory = psutil.virtual_memory()
    room = 4 * 2**30
    if memory.available < 3 * room:
        pytest.skip("needs 12 GB of free memory")
    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "100")
    monkeypatch.setenv("RAY_memory_usage_threshold", str((memory.total - memory.available + room) / memory.total))
    place = studies.study_folder(folder, "study")
    driver = studies.start(folder, "study")
    studies.wait_for(lambda: studies.epochs_recorded(place) > 30, 240)
    before = {worker.pid for worker in studies.train_workers(driver)}
    subprocess.run([sys.executable, "-c", HOG, str(int(1.5 * room))], check=True, env=dict(os.environ))
    studies.finish(driver)
    points = studies.expect_whole(place, studies.store(folder), trials=8)
    attempts = sum(lines[0]["attempts"] - 1 for lines in studies.records(place).values())
    assert before
    assert attempts > 0, "the monitor killed nothing: memory was not short enough"
    print(f"\nmemory monitor: {attempts} attempts of trials lost, {points} metric points in MLflow as recorded")


def test_ray_killed_under_the_driver(folder):
    place = studies.study_folder(folder, "study")
    driver = studies.start(folder, "study")
    studies.wait_for(lambda: studies.epochs_recorded(place) > 30, 240)
    below = studies.children(driver)
    killed = time.monotonic()
    for process in below:
        if process.name().startswith(("gcs_server", "raylet")):
            process.kill()
    output, errors = driver.communicate(timeout=300)
    print(f"\nRay killed: the driver ended after {time.monotonic() - killed:.0f} s with status {driver.returncode}")
    print((output + errors)[-600:])
    studies.end_leftovers(below)
    assert driver.returncode != 0
    studies.finish(studies.start(folder, "study"))
    studies.expect_whole(place, studies.store(folder), trials=8)
