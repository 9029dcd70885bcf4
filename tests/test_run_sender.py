"""The sender against a tracking server that fails in every way: nothing is forgotten, nothing else is held up."""

import time
from types import SimpleNamespace

import pytest

from study import run_sender
from study.packing import Pack
from study.run_sender import RunSender
from study.training_session import _Observer

pytestmark = pytest.mark.filterwarnings("ignore")  # mlflow's own


URI = "http://127.0.0.1:5000"


class FakeLog:
    """Stands for the MLflow experiment: remembers what was sent, fails on demand."""

    def __init__(self):
        self.sent, self.failing, self.begun, self.interrupted = [], set(), [], []
        self.unmarkable = set()

    def find_runs(self):
        return {}

    def begin_transmission(self, trial_id, may_have_runs):
        self.begun.append(trial_id)
        return FakeTransmission(self, trial_id)


class FakeTransmission:
    def __init__(self, log, trial_id):
        self.log, self.trial_id, self.ended, self.attempt = log, trial_id, True, "first"

    def advance(self):
        if self.trial_id in self.log.failing:
            raise ConnectionError("refused\nby the server")
        self.log.sent.append(self.trial_id)

    def mark_interrupted(self):
        if self.trial_id in self.log.unmarkable:
            raise ConnectionError("refused")
        self.log.interrupted.append(self.trial_id)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(run_sender, "RETRY_SECONDS", 0.02)
    monkeypatch.setattr(run_sender, "GATHER_SECONDS", 0.01)


def wait_for(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_everything_is_sent_before_the_end():
    log = FakeLog()
    with RunSender(lambda: log, URI) as sender:
        sender.send(["a", "b"])
    assert log.sent == ["a", "b"]
    assert sender.unsent == []
    assert sender.problem is None


def test_one_bad_trial_holds_up_no_other():
    log = FakeLog()
    log.failing = {"a"}
    with RunSender(lambda: log, URI) as sender:
        sender.send(["a", "b", "c"])
    assert set(log.sent) == {"b", "c"}
    assert sender.unsent == ["a"]


def test_a_server_that_comes_back_gets_everything():
    log = FakeLog()
    log.failing = set("abcdefg")
    with RunSender(lambda: log, URI) as sender:
        sender.send(list("abcdefg"))
        wait_for(lambda: sender.problem is not None)
        assert sender.problem == "ConnectionError: refused"
        log.failing = set()
        wait_for(lambda: not sender.unsent)
        assert sender.problem is None
    assert sorted(log.sent) == list("abcdefg")
    assert len(log.begun) == 7  # a transmission that failed goes on, it does not begin again


def test_a_server_that_is_down_is_not_asked_for_every_trial():
    log = FakeLog()
    log.failing = {str(number) for number in range(1000)}
    with RunSender(lambda: log, URI) as sender:
        sender.send(sorted(log.failing))
    assert len(log.begun) < 20
    assert len(sender.unsent) == 1000


def test_a_server_that_fails_at_the_very_end_is_told():
    log = FakeLog()
    log.unmarkable = {"b"}
    with RunSender(lambda: log, URI) as sender:
        sender.send(["a", "b", "c"])
    assert log.interrupted == ["a", "c"]
    assert sender.unsent == ["b"]
    assert sender.problem == "ConnectionError: refused"


def test_what_was_sent_is_known():
    log = FakeLog()
    log.failing = {"b"}
    with RunSender(lambda: log, URI) as sender:
        sender.send(["a", "b"])
    assert sender.sent == {"a": "first"}


def test_a_server_that_is_down_from_the_beginning_gets_everything_once_it_is_up():
    log, refusals = FakeLog(), []

    def open_log():
        if len(refusals) < 3:
            refusals.append(True)
            raise ConnectionError("refused by http://user:secret@host")
        return log

    with RunSender(open_log, "http://user:secret@host") as sender:
        sender.send(["a", "b"])
        wait_for(lambda: sender.problem is not None)
        assert sender.problem == "ConnectionError: refused by http://user:***@host"
        wait_for(lambda: not sender.unsent)
    assert log.sent == ["a", "b"]
    assert sender.problem is None


def test_a_server_that_stays_down_is_told():
    def refuse():
        raise ConnectionError("refused")

    with RunSender(refuse, URI) as sender:
        sender.send(["a", "b"])
    assert sender.unsent == ["a", "b"]
    assert sender.problem == "ConnectionError: refused"


def test_news_are_gathered_until_there_is_a_hurry(monkeypatch):
    monkeypatch.setattr(run_sender, "GATHER_SECONDS", 60.0)
    log = FakeLog()
    with RunSender(lambda: log, URI) as sender:
        for trial_id in "abab":
            sender.send([trial_id])
        sender.hurry()
        wait_for(lambda: log.sent == ["a", "b"])
        sender.send(["c"])
    assert log.sent == ["a", "b", "c"]  # the end is a hurry, too


def test_news_do_not_wait_for_ever(monkeypatch):
    log = FakeLog()
    with RunSender(lambda: log, URI) as sender:
        sender.send(["a"])
        wait_for(lambda: log.sent == ["a"])


def test_a_trial_that_runs_is_sent_later_and_once_it_ends_at_once():
    log = FakeLog()
    with RunSender(lambda: log, URI) as sender:
        sender.send(["a", "b"], ended=False)
        sender.send(["b", "c"])
        wait_for(lambda: sorted(log.sent) == ["b", "c"])
        sender.send(["c"], ended=False)
        time.sleep(0.1)  # several rounds
        assert sorted(log.sent) == ["b", "c"]
    assert sorted(log.sent[2:]) == ["a", "c"]  # the end is a hurry


def test_a_trial_that_runs_for_long_is_sent_while_it_runs(monkeypatch):
    monkeypatch.setattr(run_sender, "RUNNING_SECONDS", 0.2)
    log = FakeLog()
    with RunSender(lambda: log, URI) as sender:
        began = time.monotonic()
        for _ in range(5):  # later news of it do not put it off
            sender.send(["a"], ended=False)
            time.sleep(0.01)
        wait_for(lambda: log.sent == ["a"])
        assert time.monotonic() - began >= 0.2


def test_the_store_is_opened_with_the_first_news_and_while_they_are_gathered(monkeypatch):
    monkeypatch.setattr(run_sender, "GATHER_SECONDS", 60.0)
    opened = []

    def open_log():
        opened.append(True)
        return FakeLog()

    with RunSender(open_log, URI) as sender:
        sender.send([])
        time.sleep(0.05)
        assert not opened
        sender.send(["a"], ended=False)
        wait_for(lambda: opened)
    assert opened == [True]


def test_nothing_is_opened_when_nothing_was_told():
    opened = []
    with RunSender(lambda: opened.append(True), URI):
        time.sleep(0.05)
    assert not opened


def test_a_pack_is_sent_once_it_has_measured_something(make_trial):
    pack, sent = Pack((make_trial(),)), []
    progress = SimpleNamespace(pack_reported=lambda *_: None)
    sender = SimpleNamespace(send=lambda trial_ids, ended: sent.append((trial_ids, ended)))
    observer = _Observer([pack], progress, sender, console=None)
    observer.pack_reported(pack.pack_id, 0.0, {})
    assert not sent
    observer.pack_reported(pack.pack_id, 0.5, {})
    assert sent == [([pack.trials[0].trial_id], False)]
