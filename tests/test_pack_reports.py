"""Reports of a pack to a driver that takes its time: training waits for none of them, and no news is lost."""

import threading
import time

import pytest

from study import pack_reports
from study.pack_reports import PackReports, ReportingFailed
from study.pack_training import PackNews


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(pack_reports, "REPORT_SECONDS", 0.0)


def news(epoch: int) -> PackNews:
    return PackNews(epoch / 10, {f"trial {epoch % 2}": 1 / (epoch + 1)}, (f"notice {epoch}",))


def wait_for(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_training_does_not_wait_for_a_driver_that_is_busy():
    is_free, taken = threading.Event(), []

    def report(one: PackNews) -> None:
        taken.append(one)
        assert is_free.wait(10)

    with PackReports(report) as reports:
        reports.tell(news(0))
        wait_for(lambda: taken)
        for epoch in range(1, 5):
            reports.tell(news(epoch))
        assert taken == [news(0)]
        is_free.set()
        wait_for(lambda: len(taken) == 2)
    assert taken[1] == PackNews(
        0.4, {"trial 1": 1 / 4, "trial 0": 1 / 5}, ("notice 1", "notice 2", "notice 3", "notice 4")
    )
    assert reports.unreported == PackNews(0.4, {})


def test_a_report_that_fails_ends_the_pack_and_fails_no_trial():
    def report(one: PackNews) -> None:
        raise ConnectionError("the driver is gone")

    with PackReports(report) as reports:
        reports.tell(news(0))
        wait_for(lambda: not reports._thread.is_alive())
        with pytest.raises(ReportingFailed, match="the driver is gone"):
            reports.tell(news(1))
    assert not issubclass(ReportingFailed, Exception)  # which would be laid to a trial


def test_what_was_not_reported_at_the_end_is_left(monkeypatch):
    monkeypatch.setattr(pack_reports, "REPORT_SECONDS", 60.0)
    taken = []
    with PackReports(taken.append) as reports:
        reports.tell(news(0))
        wait_for(lambda: taken)
        reports.tell(news(1))
        reports.tell(news(2))
    assert taken == [news(0)]
    assert reports.unreported == news(1).followed_by(news(2))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # threads end quietly by SystemExit
def test_a_trial_that_tune_stops_ends():
    def report(_: PackNews) -> None:
        raise SystemExit(0)  # as tune.report does then

    with PackReports(report) as reports:
        reports.tell(news(0))
        wait_for(lambda: not reports._thread.is_alive())
        with pytest.raises(SystemExit):
            reports.tell(news(1))


def test_an_error_of_training_is_raised():
    with pytest.raises(ZeroDivisionError), PackReports(lambda _: None):
        raise ZeroDivisionError
