"""Records are written beside the training: in order, all of them, and what fails is told."""

import subprocess
import sys
import threading
from functools import partial

import pytest

from study.record_writers import RecordWriters

PATIENCE = 30.0


def test_members_are_written_side_by_side_and_come_back_in_order():
    all_here = threading.Barrier(4, timeout=PATIENCE)

    def write(member):
        all_here.wait()  # breaks, and raises, unless four write at once
        return 10 * member

    with RecordWriters() as writers:
        assert writers.write_each(write, range(4)) == [0, 10, 20, 30]


def test_training_goes_on_while_an_epoch_is_written():
    trained_on, written = threading.Event(), []

    def write(epoch):
        assert trained_on.wait(PATIENCE)
        written.append(epoch)

    with RecordWriters() as writers:
        writers.begin(partial(write, 0))
        assert not written
        trained_on.set()
        for epoch in range(1, 20):
            writers.begin(partial(write, epoch))
    assert written == list(range(20))


def test_what_was_begun_may_write_for_each_member():
    written = []
    with RecordWriters() as writers:
        writers.begin(lambda: written.extend(writers.write_each(str, range(20))))
    assert written == [str(number) for number in range(20)]


@pytest.mark.parametrize("error", [OSError("full"), SystemExit(0)])
@pytest.mark.parametrize("then", ["begin", "wait"])
def test_a_failure_is_raised_where_training_meets_it(error, then):
    def fail():
        raise error

    after = []
    with RecordWriters() as writers:
        writers.begin(partial(writers.write_each, lambda _: fail(), range(3)))
        with pytest.raises(type(error)):
            writers.begin(partial(after.append, 1)) if then == "begin" else writers.wait()
    assert not after


def test_what_could_not_be_written_is_raised_in_place_of_what_training_raised():
    def fail():
        raise OSError("full")

    def train():
        with RecordWriters() as writers:
            writers.begin(fail)
            raise ValueError("training failed, too")

    with pytest.raises(OSError, match="full"):
        train()


def test_a_process_that_is_told_to_exit_fails_nothing(tmp_path):
    """A thread of training that goes on while Python ends, as Tune's does, must not take that for its own fault."""
    program = f"""
import threading, time
from study.record_writers import RecordWriters

def train():
    with RecordWriters() as writers:
        try:
            while True:
                writers.begin(lambda: writers.write_each(lambda _: time.sleep(0.001), range(4)))
        except Exception as error:
            open({str(tmp_path / "failed")!r}, "w").write(repr(error))

threading.Thread(target=train, daemon=True).start()
time.sleep(0.2)
import atexit
threading._register_atexit(time.sleep, 0.1)  # runs before Python closes executors, as Ray's own way out does
atexit.register(time.sleep, 0.3)
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
    assert not (tmp_path / "failed").exists()
