"""Threads that do what they are given, and keep nothing of it."""

import gc
import time
import weakref

import pytest

from study.daemon_threads import DaemonThreads


class Large:
    """Stands for the states of a checkpoint."""


def test_what_is_done_is_not_kept_while_more_is_waited_for():
    with DaemonThreads(1, "test") as threads:
        large = Large()
        kept = weakref.ref(large)
        assert threads.begin(lambda large=large: type(large)).result(10) is Large
        del large
        deadline = time.monotonic() + 10
        while kept() is not None and time.monotonic() < deadline:  # the thread has still to come back for more
            gc.collect()
            time.sleep(0.005)
        assert kept() is None


def test_what_is_raised_is_raised_for_who_waits_and_the_thread_goes_on():
    def fail(number):
        if number == 1:
            raise ValueError("this one")
        return 10 * number

    with DaemonThreads(2, "test") as threads:
        with pytest.raises(ValueError, match="this one"):
            threads.do_each(fail, range(3))
        assert threads.do_each(fail, [2, 3]) == [20, 30]
