"""Packs in a worker that is killed, or whose members raise or kill it: the others finish, with the same numbers."""

import contextlib
import math
import os
from pathlib import Path

import pytest
import torch

from study import pack_training, trial_record
from study import run_log_schema as schema
from study.checkpoint import read_checkpoint, read_epoch
from study.pack_reports import ReportingFailed
from study.pack_training import ATTEMPTS_BEFORE_DOUBT, LOSSES_BEFORE_FAILED, PackTraining
from study.packing import Pack
from study.study_folder import StorageError, StudyFolder
from study.train_loop import train_pack
from study.trial_record import read_end, read_error, read_lines, read_start, read_status


class WorkerLost(BaseException):
    """Ends a worker at once, as a kill does."""


@pytest.fixture
def folder(tmp_path):
    folder = StudyFolder(tmp_path, "some-study")
    folder.create()
    return folder


@pytest.fixture
def run(folder, small_dataset):
    """Train trials as one pack; returns the news. `lose_at` loses the worker when so many news were told."""

    def run(trials, lose_at=math.inf, sweep_id="sweep", dataset=small_dataset, checkpoint_seconds=0.0):
        told = []

        def report(news):
            told.append(news)
            if len(told) > lose_at:
                raise WorkerLost

        PackTraining(Pack(tuple(trials)), dataset, folder, "cpu", report, sweep_id, checkpoint_seconds).run()
        return told

    return run


@pytest.fixture
def trials(make_trial):
    return [make_trial(seed=seed, epochs=4) for seed in range(4)]


def numbers(folder, trial):
    """All of a trial's record but times, attempts and packs."""
    rows = []
    for line, _ in read_lines(folder.record_path(trial.trial_id)):
        metrics = {name: value for name, value in line.get("metrics", {}).items() if name != schema.EPOCH_SECONDS}
        rows.append((line["kind"], line.get("epoch"), metrics, line.get("layers"), line.get("status")))
    return rows


@pytest.fixture
def undisturbed(trials, tmp_path, small_dataset):
    other = StudyFolder(tmp_path, "undisturbed")
    other.create()
    PackTraining(Pack(tuple(trials)), small_dataset, other, "cpu", lambda _: None, "sweep", 1e9).run()
    return {trial.trial_id: numbers(other, trial) for trial in trials}


def test_a_lost_pack_goes_on_in_other_packs_with_the_same_bytes(run, trials, folder, undisturbed):
    with pytest.raises(WorkerLost):
        run(trials, lose_at=4)
    assert [read_epoch(folder.checkpoint_path(trial.trial_id)) for trial in trials] == [3, 3, 3, 3]
    with pytest.raises(WorkerLost):
        run(trials[1:], lose_at=0)  # begun, and lost before anything was trained
    begun = read_start(folder.record_path(trials[1].trial_id))
    run([trials[1], trials[3]])
    run([trials[2], trials[0]])
    for trial in trials:
        assert numbers(folder, trial) == undisturbed[trial.trial_id]
        assert not folder.checkpoint_path(trial.trial_id).exists()
    after = read_start(folder.record_path(trials[1].trial_id))
    assert (after["resume_epoch"], after["origin"]) == (3, begun["origin"])


def test_members_at_different_epochs_go_on_in_one_worker(run, trials, folder, undisturbed):
    with pytest.raises(WorkerLost):
        run(trials[:2], lose_at=2)
    with pytest.raises(WorkerLost):
        run(trials[2:3], lose_at=4)
    shares = [news.share_done for news in run(trials)]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert {trial.trial_id: numbers(folder, trial) for trial in trials} == undisturbed


@pytest.mark.parametrize("damage", ["cut", "flipped", "foreign", "record"])
def test_what_does_not_fit_is_told_and_the_trial_begins_again(run, trials, folder, undisturbed, damage):
    with pytest.raises(WorkerLost):
        run(trials[:2], lose_at=4)
    path, other = (folder.checkpoint_path(trial.trial_id) for trial in trials[:2])
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-1])
    elif damage == "flipped":
        path.write_bytes(path.read_bytes()[:-9] + b"\0" + path.read_bytes()[-8:])
    elif damage == "foreign":
        path.write_bytes(other.read_bytes())
    else:
        record = folder.record_path(trials[0].trial_id)
        record.write_bytes(b"".join(record.read_bytes().splitlines(keepends=True)[:3]))
    notices = [notice for news in run(trials) for notice in news.notices]
    assert len(notices) == 1
    assert notices[0].startswith(f"{trials[0].name} begins again: checkpoint: ")
    assert "\n" not in notices[0]
    assert read_start(folder.record_path(trials[0].trial_id))["notice"] == notices[0]
    assert {trial.trial_id: numbers(folder, trial) for trial in trials} == undisturbed


def test_another_environment_begins_again(run, trials, folder, monkeypatch):
    with pytest.raises(WorkerLost):
        run(trials[:1], lose_at=3)
    monkeypatch.setattr(pack_training, "describe_environment", lambda _: {"code_revision": "newer"})
    notices = [notice for news in run(trials[:1]) for notice in news.notices]
    assert "made with another code_revision" in notices[0]
    assert [row[1] for row in numbers(folder, trials[0])][1:-1] == [0, 1, 2, 3, 4]


@pytest.fixture
def faulty(monkeypatch, trials):
    """Makes the third trial raise what is asked for at the end of its third epoch, in whatever pack it is."""

    def install(fault):
        def train(pack, *arguments, **options):
            for members in train_pack(pack, *arguments, **options):
                if members[0].epoch == 3 and trials[2] in pack:
                    raise fault
                yield members

        monkeypatch.setattr(pack_training, "train_pack", train)

    return install


@pytest.mark.parametrize(
    "fault",
    [
        ValueError("its own fault"),
        torch.OutOfMemoryError("full"),
        torch.AcceleratorError("CUDA error: out of memory"),
        MemoryError(),
    ],
)
def test_a_raising_member_fails_alone(run, trials, folder, undisturbed, faulty, fault):
    faulty(fault)
    assert run(trials)[-1].share_done == 1
    for place, trial in enumerate(trials):
        if place == 2:
            assert read_status(folder.record_path(trial.trial_id)) == schema.STATUS_FAILED
            assert type(fault).__name__ in read_error(folder.record_path(trial.trial_id))
            assert "Traceback" in read_error(folder.record_path(trial.trial_id))
            assert numbers(folder, trial)[:-1] == undisturbed[trial.trial_id][:4]
            assert read_epoch(folder.checkpoint_path(trial.trial_id)) == 2
        else:
            assert numbers(folder, trial) == undisturbed[trial.trial_id]
    assert run(trials)[-1].share_done == 1  # the same sweep does not try it again
    assert read_start(folder.record_path(trials[2].trial_id))["attempts"] == 3  # whole pack, half, alone


def test_halving_a_large_pack_is_no_loss_of_a_worker(run, make_trial, folder, monkeypatch):
    trials = [make_trial(seed=seed, epochs=1, depth=2, width=4) for seed in range(16)]

    def train(pack, *arguments, **options):
        if trials[5] in pack:
            raise ValueError("its own fault")
        return train_pack(pack, *arguments, **options)

    monkeypatch.setattr(pack_training, "train_pack", train)
    run(trials, checkpoint_seconds=1e9)
    endings = [read_end(folder.record_path(trial.trial_id)) for trial in trials]
    assert [end["status"] for end in endings] == [schema.STATUS_OK] * 5 + [schema.STATUS_FAILED] + [
        schema.STATUS_OK
    ] * 10
    assert "its own fault" in endings[5]["error"]


def test_a_failed_trial_goes_on_in_the_next_sweep(run, trials, folder, undisturbed, faulty, monkeypatch):
    faulty(ValueError("its own fault"))
    run(trials)
    monkeypatch.setattr(pack_training, "train_pack", train_pack)
    run(trials, sweep_id="next")
    assert read_start(folder.record_path(trials[2].trial_id))["resume_epoch"] == 2
    assert {trial.trial_id: numbers(folder, trial) for trial in trials} == undisturbed


@pytest.mark.parametrize("fault", [WorkerLost(), torch.AcceleratorError("illegal memory access")])
def test_a_member_that_kills_workers_fails_alone(run, trials, folder, undisturbed, faulty, fault):
    faulty(fault)
    for _ in range(20):
        try:
            told = run(trials)
            break
        except type(fault):
            continue
    assert told[-1].share_done == 1
    for place, trial in enumerate(trials):
        if place == 2:
            error = f"the worker was lost {LOSSES_BEFORE_FAILED} times while it trained this trial"
            assert read_error(folder.record_path(trial.trial_id)) == error
        else:
            assert numbers(folder, trial) == undisturbed[trial.trial_id]


def test_workers_lost_with_progress_between_them_fail_nothing(run, folder, make_trial):
    trials = [make_trial(seed=seed, epochs=7) for seed in range(2)]
    with pytest.raises(WorkerLost):
        run(trials, lose_at=2)
    for _ in range(2 * LOSSES_BEFORE_FAILED - 1):  # one epoch further each time
        with pytest.raises(WorkerLost):
            run(trials, lose_at=1)
    run(trials)
    for trial in trials:
        assert read_status(folder.record_path(trial.trial_id)) == schema.STATUS_OK
        assert [row[1] for row in numbers(folder, trial)][1:-1] == list(range(8))
        assert read_start(folder.record_path(trial.trial_id))["attempts"] == 2 * LOSSES_BEFORE_FAILED + 1


@pytest.mark.parametrize(("epochs_between", "status"), [(3, schema.STATUS_OK), (0, schema.STATUS_FAILED)])
def test_workers_lost_on_nodes_of_two_models(run, folder, trials, monkeypatch, epochs_between, status):
    """A checkpoint that the next node cannot use is progress nevertheless."""
    trial = trials[0]
    for number in range(LOSSES_BEFORE_FAILED + 1):
        monkeypatch.setattr(pack_training, "describe_environment", lambda _, model=number % 2: {"device": str(model)})
        try:
            run([trial], lose_at=1 + epochs_between)
        except WorkerLost:
            assert folder.checkpoint_path(trial.trial_id).exists() == (epochs_between > 0)
    run([trial])
    assert read_status(folder.record_path(trial.trial_id)) == status


def test_workers_of_two_models_that_a_trial_kills_are_not_lost_for_ever(run, folder, trials, monkeypatch):
    for number in range(ATTEMPTS_BEFORE_DOUBT + LOSSES_BEFORE_FAILED):
        monkeypatch.setattr(pack_training, "describe_environment", lambda _, model=number % 2: {"device": str(model)})
        with contextlib.suppress(WorkerLost):
            run(trials[:1], lose_at=2)
    assert read_status(folder.record_path(trials[0].trial_id)) == schema.STATUS_FAILED


@pytest.mark.parametrize("checkpoint_seconds", [0.0, 1e9])
def test_what_is_told_is_on_the_disk(trials, folder, small_dataset, checkpoint_seconds):
    told = []

    def report(news):
        recorded = [len(numbers(folder, trial)) for trial in trials]
        told.append((news.share_done, recorded))

    pack = Pack(tuple(trials))
    PackTraining(pack, small_dataset, folder, "cpu", report, "sweep", checkpoint_seconds).run()
    for number, (share, recorded) in enumerate(told):  # a start before training, 5 epochs and an end
        assert share == number / 5
        assert min(recorded) >= (number + 1 if number else 0)
    assert recorded == [7] * 4


def test_losses_of_earlier_sweeps_do_not_count(run, trials, folder):
    for number in range(LOSSES_BEFORE_FAILED + 2):  # a user who stops a study again and again
        with pytest.raises(WorkerLost):
            run(trials, lose_at=1, sweep_id=f"sweep {number}")
    run(trials, sweep_id="last")
    assert {read_status(folder.record_path(trial.trial_id)) for trial in trials} == {schema.STATUS_OK}


def test_diverged_members_end_and_leave_no_checkpoint(run, make_trial, folder):
    trials = [make_trial(optimizer="sgd", learning_rate=rate, epochs=4) for rate in (1e-2, 1e30)]
    run(trials)
    statuses = [read_status(folder.record_path(trial.trial_id)) for trial in trials]
    assert statuses == [schema.STATUS_OK, schema.STATUS_DIVERGED]
    assert not list(folder.path.glob("checkpoints/*"))


def test_a_worker_that_was_given_up_cannot_end_its_successors_record(run, trials, folder, small_dataset):
    trial = trials[0]
    successor = []

    def report(news):
        if news.share_done > 0.3 and not successor:
            path = folder.record_path(trial.trial_id)
            successor.append(trial_record.TrialRecord(path, trial, "other", {}, sweep_id="sweep"))
            raise ValueError("this worker fails after it was given up")

    PackTraining(Pack((trial,)), small_dataset, folder, "cpu", report, "sweep", 0.0).run()
    assert read_end(folder.record_path(trial.trial_id)) == {}


@pytest.mark.parametrize("ends", [True, False])
def test_a_worker_that_was_given_up_leaves_its_successors_checkpoint_alone(trials, folder, small_dataset, ends):
    trial, taken_over = trials[0], []
    checkpoint = folder.checkpoint_path(trial.trial_id)

    def report(news):
        if news.share_done > 0.3 and not taken_over:
            path = folder.record_path(trial.trial_id)
            taken_over.append(trial_record.TrialRecord(path, trial, "other", {}, sweep_id="sweep", resume_epoch=1))
            checkpoint.write_bytes(b"of the successor")
        if news.share_done > 0.7 and not ends:
            raise WorkerLost

    training = PackTraining(Pack((trial,)), small_dataset, folder, "cpu", report, "sweep", 0.0)
    with contextlib.nullcontext() if ends else pytest.raises(WorkerLost):
        training.run()
    assert taken_over
    assert checkpoint.read_bytes() == b"of the successor"


def test_a_checkpoint_that_cannot_be_read_now_is_kept(run, trials, folder, undisturbed, monkeypatch):
    with pytest.raises(WorkerLost):
        run(trials, lose_at=3)
    read_bytes = Path.read_bytes

    def refuse(path):
        if path.suffix == ".checkpoint":
            raise OSError(5, "Input/output error")
        return read_bytes(path)

    before = {path: path.read_bytes() for path in folder.path.glob("checkpoints/*")}
    assert len(before) == len(trials)
    with monkeypatch.context() as failing:
        failing.setattr(Path, "read_bytes", refuse)
        with pytest.raises(StorageError, match=r"^storage: cannot read .*\.checkpoint \(Input/output error\); mend it"):
            run(trials, sweep_id="next")
    assert {path: path.read_bytes() for path in folder.path.glob("checkpoints/*")} == before
    run(trials, sweep_id="mended")
    assert {trial.trial_id: numbers(folder, trial) for trial in trials} == undisturbed
    assert all(read_start(folder.record_path(trial.trial_id))["resume_epoch"] > 0 for trial in trials)


def test_where_there_is_no_room_for_all_checkpoints_the_pack_is_halved(run, trials, folder, undisturbed, monkeypatch):
    with pytest.raises(WorkerLost):
        run(trials, lose_at=3)
    read, read_at_once = pack_training.read_checkpoint, []

    def read_few(path, trial_id, origin):
        read_at_once.append(trial_id)
        if len(read_at_once) == 4:
            raise MemoryError("no room")
        return read(path, trial_id, origin)

    monkeypatch.setattr(pack_training, "read_checkpoint", read_few)
    run(trials, sweep_id="next")
    assert {trial.trial_id: numbers(folder, trial) for trial in trials} == undisturbed
    starts = [read_start(folder.record_path(trial.trial_id)) for trial in trials]
    assert {start["pack"][schema.TAG_PACK_SIZE] for start in starts} == {"2"}
    assert all(start["resume_epoch"] > 0 for start in starts)


def test_the_first_news_say_where_a_pack_goes_on(run, trials):
    with pytest.raises(WorkerLost):
        run(trials, lose_at=3)
    first, second, *_ = run(trials, sweep_id="next")
    assert first.share_done == pytest.approx(3 / 5)
    assert second.share_done == pytest.approx(4 / 5)


def test_notices_of_a_worker_are_told_with_the_first_news(trials, folder, small_dataset):
    told = []
    PackTraining(Pack(tuple(trials)), small_dataset, folder, "cpu", told.append, "sweep", 0.0).run(
        ["Slow: this worker"]
    )
    assert [news.notices for news in told[:2]] == [("Slow: this worker",), ()]


def test_a_driver_that_cannot_be_told_fails_no_trial(trials, folder, small_dataset):
    def report(news):
        if news.share_done > 0.3:
            raise ReportingFailed

    with pytest.raises(ReportingFailed):
        PackTraining(Pack(tuple(trials)), small_dataset, folder, "cpu", report, "sweep", 0.0).run()
    assert all(read_end(folder.record_path(trial.trial_id)) == {} for trial in trials)


def test_a_worker_that_was_given_up_and_fails_leaves_its_successors_records_alone(trials, folder, small_dataset):
    taken_over = []

    def report(news):
        if news.share_done > 0.3 and not taken_over:
            for trial in trials:
                path = folder.record_path(trial.trial_id)
                taken_over.append(trial_record.TrialRecord(path, trial, "other", {}, sweep_id="sweep").attempt)
            raise ValueError("this worker fails after it was given up")

    PackTraining(Pack(tuple(trials)), small_dataset, folder, "cpu", report, "sweep", 0.0).run()
    assert [read_start(folder.record_path(trial.trial_id))["attempt"] for trial in trials] == taken_over


def test_a_checkpoint_that_cannot_be_removed_fails_no_trial(run, trials, folder, undisturbed, monkeypatch):
    def refuse(path, missing_ok=False):
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as refusing:
        refusing.setattr(Path, "unlink", refuse)
        with pytest.raises(StorageError, match="Permission denied"):  # of an earlier training
            run(trials)
    assert all(read_end(folder.record_path(trial.trial_id)) == {} for trial in trials)
    unlink = Path.unlink
    monkeypatch.setattr(  # as it ends
        Path, "unlink", lambda path, **options: (refuse if read_end_of(folder, path) else unlink)(path, **options)
    )
    run(trials)
    assert {trial.trial_id: numbers(folder, trial) for trial in trials} == undisturbed


def read_end_of(folder, checkpoint):
    return read_end(folder.record_path(checkpoint.name.removesuffix(".checkpoint")))


def test_a_storage_that_is_full_ends_the_pack_and_no_trial(run, trials, folder, undisturbed, monkeypatch):
    written = []
    original = os.fsync

    def fill(number):
        written.append(number)
        if len(written) > 30:
            raise OSError(28, "No space left on device")
        original(number)

    monkeypatch.setattr(os, "fsync", fill)
    with pytest.raises(StorageError, match="No space left on device"):
        run(trials)
    assert all(read_status(folder.record_path(trial.trial_id)) is None for trial in trials)
    monkeypatch.setattr(os, "fsync", original)
    run(trials, sweep_id="with more room")
    assert {trial.trial_id: numbers(folder, trial) for trial in trials} == undisturbed


def test_a_storage_that_takes_records_but_no_checkpoint_fails_no_trial(run, trials, folder, undisturbed, monkeypatch):
    def refuse(path, checkpoint):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(pack_training, "write_checkpoint", refuse)
        with pytest.raises(StorageError, match="No space left on device"):
            run(trials)
    assert all(read_status(folder.record_path(trial.trial_id)) is None for trial in trials)
    run(trials, sweep_id="with more room")
    assert {trial.trial_id: numbers(folder, trial) for trial in trials} == undisturbed


def test_checkpoints_are_written_as_often_as_asked(run, trials, folder):
    with pytest.raises(WorkerLost):
        run(trials, lose_at=4, checkpoint_seconds=1000.0)
    assert not list(folder.path.glob("checkpoints/*"))
    with pytest.raises(WorkerLost):
        run(trials[:1], lose_at=2, sweep_id="next")
    start = read_start(folder.record_path(trials[0].trial_id))
    checkpoint = read_checkpoint(folder.checkpoint_path(trials[0].trial_id), trials[0].trial_id, start["origin"])
    assert checkpoint.epoch == 1


def test_errors_of_networks_that_only_guess_are_not_told(run, make_trial):
    wild, tame = make_trial(optimizer="sgd", learning_rate=1e6, epochs=2), make_trial(optimizer="sgd", epochs=2)
    told = run([wild, tame])
    assert not told[0].test_errors
    assert {trial_id for news in told for trial_id in news.test_errors} == {tame.trial_id}
    (untrained,) = [trial_id for news in run([make_trial(epochs=0)]) for trial_id in news.test_errors]
    assert untrained == make_trial(epochs=0).trial_id
