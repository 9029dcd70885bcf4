"""Who may run a study, when another driver holds it or may be lost."""

import io
import socket
import threading

import pytest
from filelock import FileLock
from rich.console import Console

from study import driver
from study.driver import hold_study


@pytest.fixture
def console():
    return Console(file=io.StringIO(), width=200)


@pytest.fixture
def held(folder):
    """Hold a study as the driver of a host would."""

    def held(host):
        (folder.path / "driver").write_text(f"process 17 on {host}\n")
        lock = FileLock(folder.driver_lock, thread_local=False)
        lock.acquire()
        return lock

    return held


def test_a_driver_on_this_machine_is_refused_at_once(folder, console, held):
    with (
        held(socket.gethostname()),
        pytest.raises(ValueError, match=r"name: study 'some' is being run by process 17 on .*; wait, or choose"),
        hold_study(folder, console),
    ):
        pass
    assert console.file.getvalue() == ""


def test_a_driver_that_was_lost_with_its_machine_is_waited_for(folder, console, held):
    lock = held("lost-head")
    threading.Timer(0.3, lock.release).start()  # as the server of the file system does
    with hold_study(folder, console):
        assert (folder.path / "driver").read_text().endswith(f" on {socket.gethostname()}\n")
    assert console.file.getvalue().startswith("Study some is held by process 17 on lost-head. If that machine is lost")


def test_a_driver_that_lives_elsewhere_is_not_waited_for_for_ever(folder, console, held, monkeypatch):
    monkeypatch.setattr(driver, "LOST_HOST_SECONDS", 0.1)
    with (
        held("other-head"),
        pytest.raises(ValueError, match="is being run by process 17 on other-head"),
        hold_study(folder, console),
    ):
        pass
