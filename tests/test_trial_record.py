import json
import math
import os

import pytest

from study import run_log_schema as schema
from study import trial_record
from study.study_folder import StorageError
from study.train_loop import MemberEpoch
from study.trial_record import (
    StudyFolder,
    TrialRecord,
    check_same_data,
    end_as_failed,
    read_environment,
    read_error,
    read_lines,
    read_start,
    read_status,
)


@pytest.fixture
def path(tmp_path):
    folder = StudyFolder(tmp_path, "some-study")
    folder.create()
    return folder.record_path("abc")


def epoch(number, diverged=False, loss=0.5):
    return MemberEpoch("abc", number, {schema.TRAIN_LOSS: loss}, [(0, 0.0, 0, 1.0, 0.1, None, None, None)], diverged)


def test_a_record_reads_back_as_written(path, make_trial):
    record = TrialRecord(path, make_trial(), "pack", {"device": "cpu"})
    record.add_epoch(epoch(0))
    assert read_status(path) is None
    record.end(schema.STATUS_OK)
    lines = [line for line, _ in read_lines(path)]
    assert [line["kind"] for line in lines] == ["start", "epoch", "end"]
    assert lines[0]["config"]["depth"] == 5
    assert lines[1]["layers"] == [[0, 0.0, 0, 1.0, 0.1, None, None, None]]
    assert read_status(path) == schema.STATUS_OK


def test_every_line_is_on_the_disk_when_the_call_returns(path, make_trial, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda _: synced.append(path.read_bytes().count(b"\n") if path.exists() else 0))
    record = TrialRecord(path, make_trial(), "pack", {})
    record.add_epoch(epoch(0))
    record.end(schema.STATUS_OK)
    assert synced == [0, 1, 2, 3]  # the file, its name in the folder, and every line


def test_divergence_ends_a_trial_and_leaves_out_what_is_not_finite(path, make_trial):
    record = TrialRecord(path, make_trial(), "pack", {})
    record.add_epoch(epoch(1, diverged=True, loss=math.nan))
    record.end(schema.STATUS_OK)  # comes too late
    assert read_status(path) == schema.STATUS_DIVERGED
    lines = [line for line, _ in read_lines(path)]
    assert lines[1]["metrics"] == {}
    assert len(lines) == 3


def test_a_cut_off_line_is_left_out_at_every_byte(path, make_trial):
    record = TrialRecord(path, make_trial(), "pack", {})
    record.add_epoch(epoch(0))
    record.end(schema.STATUS_OK)
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        complete = [json.loads(line) for line in content[:length].split(b"\n")[:-1]]
        assert [line for line, _ in read_lines(path)] == complete
        assert read_status(path) is None


def numbers(path):
    return [(line["epoch"], line["metrics"], line["layers"]) for line, _ in read_lines(path) if line["kind"] == "epoch"]


def test_a_resumed_attempt_takes_over_what_lies_before_its_checkpoint(path, make_trial):
    first = TrialRecord(path, make_trial(), "pack", {"device": "cpu"})
    for number in range(4):
        first.add_epoch(epoch(number))
    before, times = numbers(path), [line["time_ms"] for line, _ in read_lines(path)]
    second = TrialRecord(path, make_trial(), "other", {"device": "cpu"}, resume_epoch=2)
    assert numbers(path) == before[:3]
    assert [line["time_ms"] for line, _ in read_lines(path)] == times[:4]
    first.add_epoch(epoch(4))  # a worker that was given up
    first.end(schema.STATUS_OK)
    assert read_status(path) is None
    second.add_epoch(epoch(3))
    second.end(schema.STATUS_OK)
    assert numbers(path) == before
    start = read_start(path)
    assert (start["attempts"], start["resume_epoch"], start["pack_id"]) == (2, 2, "other")
    assert second.origin == start["origin"] == first.origin != second.attempt
    assert TrialRecord(path, make_trial(), "pack", {}).origin not in (first.origin, second.origin)


def test_times_of_a_whole_record_never_go_back(path, make_trial, monkeypatch):
    clock = [5_000_000_000]
    monkeypatch.setattr(trial_record.time, "time_ns", lambda: clock[0])
    record = TrialRecord(path, make_trial(), "pack", {})
    for number, seconds in enumerate((7, 1, 3, 9)):
        clock[0] = seconds * 1_000_000_000
        record.add_epoch(epoch(number))
    clock[0] = 0
    TrialRecord(path, make_trial(), "pack", {}, resume_epoch=3).add_epoch(epoch(4))
    assert [line["time_ms"] for line, _ in read_lines(path)] == [5000, 7000, 7000, 7000, 9000, 9000]


@pytest.mark.parametrize("call", ["begin", "epoch", "end"])
def test_a_full_disk_is_one_line_and_loses_nothing_that_was_complete(path, make_trial, monkeypatch, call):
    record = TrialRecord(path, make_trial(), "pack", {})
    record.add_epoch(epoch(0))
    before = [line for line, _ in read_lines(path)]

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    actions = {
        "begin": lambda: TrialRecord(path, make_trial(), "pack", {}),
        "epoch": lambda: record.add_epoch(epoch(1)),
        "end": lambda: record.end(schema.STATUS_OK),
    }
    with pytest.raises(StorageError, match=r"storage: cannot write .*abc.jsonl \(No space left on device\); make room"):
        actions[call]()
    assert [line for line, _ in read_lines(path)][:2] == before


def test_reading_goes_on_from_an_offset(path, make_trial):
    record = TrialRecord(path, make_trial(), "pack", {})
    ((_, offset),) = read_lines(path)
    record.add_epoch(epoch(0))
    record.add_epoch(epoch(1))
    assert [line["epoch"] for line, _ in read_lines(path, offset)] == [0, 1]


def test_an_abandoned_record_keeps_its_complete_lines(path, make_trial):
    trial = make_trial()
    TrialRecord(path, trial, "pack", {}).add_epoch(epoch(0))
    with path.open("a") as file:
        file.write('{"kind": "epo')
    end_as_failed(path, trial, "pack", {}, "the worker was lost")
    assert [line["kind"] for line, _ in read_lines(path)] == ["start", "epoch", "end"]
    assert read_status(path) == schema.STATUS_FAILED
    assert read_error(path) == "the worker was lost"


def test_a_record_that_ended_is_not_ended_again(path, make_trial):
    TrialRecord(path, make_trial(), "pack", {}).end(schema.STATUS_OK)
    end_as_failed(path, make_trial(), "pack", {}, "too late")
    assert read_status(path) == schema.STATUS_OK


def test_a_worker_that_was_given_up_and_writes_on_changes_nothing(path, make_trial):
    given_up = TrialRecord(path, make_trial(), "pack", {})
    given_up.add_epoch(epoch(0))
    record = TrialRecord(path, make_trial(), "pack", {})
    given_up.add_epoch(epoch(1))
    record.add_epoch(epoch(0))
    given_up.end(schema.STATUS_OK)
    assert [line["kind"] for line, _ in read_lines(path)] == ["start", "epoch"]
    assert read_status(path) is None
    record.end(schema.STATUS_DIVERGED)
    assert read_status(path) == schema.STATUS_DIVERGED


def test_the_end_is_the_end(path, make_trial):
    given_up = TrialRecord(path, make_trial(), "pack", {})
    end_as_failed(path, make_trial(), "pack", {}, "the worker was lost")
    given_up.add_epoch(epoch(0))
    given_up.end(schema.STATUS_OK)
    assert [line["kind"] for line, _ in read_lines(path)] == ["start", "end"]
    assert read_status(path) == schema.STATUS_FAILED


def test_records_from_before_attempts_were_told_apart_are_read(path, make_trial):
    record = TrialRecord(path, make_trial(), "pack", {})
    record.add_epoch(epoch(0))
    record.end(schema.STATUS_OK)
    path.write_text(path.read_text().replace(f', "attempt": "{record.attempt}"', "").replace(
        f'"attempt": "{record.attempt}", ', ""
    ))  # fmt: skip
    assert '"attempt":' not in path.read_text()
    assert [line["kind"] for line, _ in read_lines(path)] == ["start", "epoch", "end"]


def test_a_line_that_cannot_be_read_makes_the_trial_unfinished(path, make_trial):
    record = TrialRecord(path, make_trial(), "pack", {})
    record.add_epoch(epoch(0))
    record.add_epoch(epoch(1))
    record.end(schema.STATUS_OK)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([lines[0], lines[1][:20] + "\n", *lines[2:]]))
    assert [line["kind"] for line, _ in read_lines(path)] == ["start"]
    assert read_status(path) is None


def test_a_trial_that_never_began_can_be_ended(path, make_trial):
    end_as_failed(path, make_trial(), "pack", {}, "no worker")
    assert [line["kind"] for line, _ in read_lines(path)] == ["start", "end"]


def test_a_missing_record_is_empty(tmp_path):
    assert list(read_lines(tmp_path / "none")) == []
    assert read_status(tmp_path / "none") is None


def test_unwritable_storage_is_a_one_line_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"storage: cannot write to .*file/some-study \(Not a directory\)"):
        StudyFolder(tmp_path / "file", "some-study").create()


def test_records_of_other_data_are_refused(path, make_trial):
    TrialRecord(path, make_trial(), "pack", {"data": "images:old", "data_checksum": "123"})
    check_same_data("some-study", read_environment(path), {"data": "images:moved", "data_checksum": "123"})
    with pytest.raises(ValueError, match=r"was run on images:old \(checksum 123\), now it is synthetic \(456\)"):
        check_same_data("some-study", read_environment(path), {"data": "synthetic", "data_checksum": "456"})


def test_a_record_that_cannot_be_opened_or_cut_is_a_fault_of_the_storage(path, make_trial, monkeypatch):
    trial = make_trial()
    TrialRecord(path, trial, "pack", {}).add_epoch(epoch(0))

    def refuse(*_, **__):
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as failing:
        failing.setattr(os, "truncate", refuse)
        with pytest.raises(StorageError, match=r"^storage: cannot write .* \(Input/output error\)"):
            end_as_failed(path, trial, "pack", {}, "the worker was lost")
    monkeypatch.setattr(type(path), "read_bytes", refuse)
    with pytest.raises(StorageError, match=r"^storage: cannot read .* \(Input/output error\); mend it$"):
        read_start(path)
