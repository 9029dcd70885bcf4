"""Checkpoints: whole or not at all, and nothing else than a checkpoint is taken for one."""

import errno
import os
import pickle
from pathlib import Path

import pytest
import torch

from study.checkpoint import (
    LARGEST_SHARE,
    Checkpoint,
    CheckpointSchedule,
    read_checkpoint,
    read_epoch,
    write_checkpoint,
    write_whole,
)
from study.study_folder import StorageError

STATE = {"network": {"weight": torch.arange(6.0)}, "optimizer": {"steps_done": 12, "moments": [{}, {}]}}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "abc.checkpoint"
    write_checkpoint(path, Checkpoint("abc", "first", 3, STATE))
    return path


def test_it_reads_back_as_written(path):
    checkpoint = read_checkpoint(path, "abc", "first")
    assert (checkpoint.trial_id, checkpoint.origin, checkpoint.epoch) == ("abc", "first", 3)
    assert torch.equal(checkpoint.state["network"]["weight"], torch.arange(6.0))
    assert checkpoint.state["optimizer"] == STATE["optimizer"]
    assert read_epoch(path) == 3
    assert list(path.parent.iterdir()) == [path]


def test_none_is_none(tmp_path):
    assert read_checkpoint(tmp_path / "none", "abc", "first") is None
    assert read_epoch(tmp_path / "none") == 0


def test_cut_off_at_any_byte_it_is_refused(path):
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"^checkpoint: abc.checkpoint cannot be used \(.*\)$"):
            read_checkpoint(path, "abc", "first")


def test_with_any_byte_changed_it_is_refused(path):
    content = bytearray(path.read_bytes())
    for place in range(len(content)):
        content[place] ^= 0x10
        path.write_bytes(content)
        with pytest.raises(ValueError, match="cannot be used"):
            read_checkpoint(path, "abc", "first")
        content[place] ^= 0x10


@pytest.mark.parametrize(("trial_id", "origin"), [("abd", "first"), ("abc", "second")])
def test_of_another_training_it_is_refused(path, trial_id, origin):
    with pytest.raises(ValueError, match="it belongs to another training"):
        read_checkpoint(path, trial_id, origin)


class Harmful:
    """What a pickle can do: run a function of its choice when it is loaded."""

    def __reduce__(self):
        return os.mkdir, ("harmed",)


def test_nothing_in_it_is_run(path, monkeypatch):
    monkeypatch.chdir(path.parent)
    write_checkpoint(path, Checkpoint("abc", "first", 3, {"network": Harmful()}))
    with pytest.raises(ValueError, match="cannot be used"):
        read_checkpoint(path, "abc", "first")
    path.write_bytes(pickle.dumps(Harmful()))
    with pytest.raises(ValueError, match="cannot be used"):
        read_checkpoint(path, "abc", "first")
    assert not (path.parent / "harmed").exists()


@pytest.mark.parametrize("shortage", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_where_memory_is_short_it_is_not_taken_for_damaged(path, monkeypatch, shortage):
    def fail(*_, **__):
        raise shortage

    monkeypatch.setattr(torch, "load", fail)
    with pytest.raises(MemoryError, match=r"no room for abc\.checkpoint"):
        read_checkpoint(path, "abc", "first")


@pytest.mark.parametrize("times", [1, 2])
def test_one_that_is_replaced_while_it_is_read_is_read_again(path, monkeypatch, times):
    """As a server of NFS has it."""
    read, failures = Path.read_bytes, [OSError(errno.ESTALE, "Stale file handle")] * times

    def read_bytes(path):
        if failures:
            raise failures.pop()
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    if times == 1:
        assert read_checkpoint(path, "abc", "first").epoch == 3
    else:
        with pytest.raises(StorageError, match=r"^storage: cannot read .* \(Stale file handle\); mend it$"):
            read_checkpoint(path, "abc", "first")


def test_a_full_disk_leaves_the_earlier_one(path, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_checkpoint(path, Checkpoint("abc", "first", 4, STATE))
    assert read_checkpoint(path, "abc", "first").epoch == 3
    assert list(path.parent.iterdir()) == [path]


def test_file_and_folder_are_synced_around_the_renaming(tmp_path, monkeypatch):
    path, events = tmp_path / "file", []
    monkeypatch.setattr(os, "fsync", lambda _: events.append(path.exists()))
    write_whole(path, b"content")
    assert events == [False, True]


def test_they_are_due_by_time_and_by_what_they_cost():
    now = [0.0]
    schedule = CheckpointSchedule(10, clock=lambda: now[0])
    assert not schedule.is_due()
    now[0] = 10.0
    assert schedule.is_due()
    schedule.note(started=9.9)
    now[0] = 19.9
    assert not schedule.is_due()
    now[0] = 20.0
    assert schedule.is_due()
    schedule.note(started=18.0)  # took 2 s
    now[0] = 20.0 + 2 / LARGEST_SHARE - 0.1
    assert not schedule.is_due()
    now[0] += 0.2
    assert schedule.is_due()


def test_they_can_be_asked_for_after_every_epoch():
    schedule = CheckpointSchedule(0, clock=lambda: 5.0)
    schedule.note(started=0.0)
    assert schedule.is_due()
