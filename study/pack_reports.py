"""News of a pack, epoch by epoch → few reports to the driver, in a thread of their own, so that training never waits.

A report lasts until the driver has taken it up, which takes tens of milliseconds while it is busy. What became news
meanwhile, or within REPORT_SECONDS, is told together.
"""

import sys
import threading
from collections.abc import Callable

from study.pack_training import PackNews

REPORT_SECONDS = 1.0
"""Between two reports of a pack, at least; who looks at the terminal or at MLflow sees no difference."""


class ReportingFailed(BaseException):
    """The driver can be told nothing any more: the worker is as good as lost. An Exception would be laid to a trial."""


class PackReports:
    """Passes on what it is told, the first news at once; use as a context manager. `report` may take its time."""

    def __init__(self, report: Callable[[PackNews], None]) -> None:
        self._report = report
        self._news: PackNews | None = None
        self._share_done = 0.0
        self._changed = threading.Condition()
        self._closing = False
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="pack reports", daemon=True)

    def __enter__(self) -> "PackReports":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Wait until the driver has taken up what it is being told; nothing more is reported."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def tell(self, news: PackNews) -> None:
        """Take news; returns at once. Ends the thread that calls it when Tune has ended the reporting one.

        Raises ReportingFailed when that one has failed.
        """
        is_alive = self._thread.is_alive()
        if self._failure is not None:
            raise ReportingFailed(str(self._failure)) from self._failure
        if not is_alive:
            sys.exit(0)  # which is how Tune stops a trial
        with self._changed:
            self._news = self._news.followed_by(news) if self._news else news
            self._share_done = news.share_done
            self._changed.notify()

    @property
    def unreported(self) -> PackNews:
        """What is left to be reported once the context is closed; at least the share that is done."""
        return self._news or PackNews(self._share_done, {})

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._news is not None or self._closing)
                if self._closing:
                    return
                news, self._news = self._news, None
            assert news is not None
            try:
                self._report(news)
            except Exception as error:  # raised where there is news again; how Tune stops a trial is no Exception
                with self._changed:
                    self._failure = error
                    self._news = news.followed_by(self._news) if self._news else news
                return
            with self._changed:
                self._changed.wait_for(lambda: self._closing, timeout=REPORT_SECONDS)
