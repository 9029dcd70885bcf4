"""A tracking server that is killed, or never there: training does not wait, and nothing is lost after `sync`."""

import itertools
import time

import pytest

from tests.faults import studies

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(1800)]


@pytest.fixture
def folder(tmp_path):
    return studies.make_folder(tmp_path / "user")


def longest_wait(place, since, until):
    """The longest time between two recorded epochs of any trials, in seconds, within a span of time."""
    times = sorted(line["time_ms"] / 1000 for lines in studies.records(place).values() for line in lines)
    return max((b - a for a, b in itertools.pairwise(times) if a < until and b > since), default=0.0)


def test_killed_for_60_seconds_in_mid_study(folder):
    port, place = studies.free_port(), studies.study_folder(folder, "long")
    uri, backend = f"http://127.0.0.1:{port}", f"sqlite:///{folder}/server.db"
    with studies.tracking_server(folder, port, backend):
        driver = studies.start(folder, "long", "--tracking-uri", uri, "--max-pack", "2")
        studies.wait_for(lambda: studies.epochs_recorded(place) > 50, 240)
        killed, before = time.time(), studies.epochs_recorded(place)
    time.sleep(60)
    back, after = time.time(), studies.epochs_recorded(place)
    assert driver.poll() is None, "the study ended before the server was back"
    assert after > before
    with studies.tracking_server(folder, port, backend):
        output = studies.finish(driver)
        assert "not in MLflow" not in output
        points = studies.expect_whole(place, uri, trials=4)
        print(
            f"\nserver down for {back - killed:.0f} s: {after - before} epochs were recorded meanwhile, longest wait "
            f"between two {longest_wait(place, killed, back):.1f} s (before: {longest_wait(place, 0, killed):.1f} s); "
            f"{points} metric points in MLflow as recorded, without sync"
        )


def test_refusing_for_the_whole_study(folder):
    port, place = studies.free_port(), studies.study_folder(folder, "short")
    uri, backend = f"http://127.0.0.1:{port}", f"sqlite:///{folder}/server.db"
    with studies.tracking_server(folder, port, backend) as server:
        driver = studies.start(folder, "short", "--tracking-uri", uri)
        studies.wait_for(lambda: (place.path / "driver").exists())
        studies.kill_group(server)
        output = studies.finish(driver)
    assert "4 trials are recorded but not in MLflow" in output
    assert "python -m study sync short" in output
    assert "Nothing was sent to MLflow yet" in studies.command(folder, "status", "short")
    refused = studies.command(folder, "sync", "short", "--tracking-uri", uri, status=2)
    assert "does not answer" in refused
    with studies.tracking_server(folder, port, backend):
        for _ in range(2):
            studies.command(folder, "sync", "short", "--tracking-uri", uri)
            points = studies.expect_whole(place, uri, trials=4)
    print(f"\nserver refused for the whole study: after sync, {points} metric points in MLflow as recorded")


def test_no_server_at_all(folder):
    uri = f"http://127.0.0.1:{studies.free_port()}"
    studies.finish(studies.start(folder, "short", "--tracking-uri", uri), status=2)
    output = studies.finish(studies.start(folder, "short", "--tracking-uri", uri, "--send-later"))
    assert "4 trials are recorded but not in MLflow" in output
    studies.command(folder, "sync", "short")
    studies.expect_whole(studies.study_folder(folder, "short"), studies.store(folder), trials=4)
