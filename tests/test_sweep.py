"""What the driver makes of Tune's events, and a worker of a pack, without Ray."""

import shutil
import socket
from types import SimpleNamespace

import pytest

from study import cluster, pack_training, processor, sweep, trial_record
from study import run_log_schema as schema
from study.pack_size import PackChoice
from study.packing import Pack
from study.study_folder import StorageError
from study.sweep import _ObserverCallback
from study.trial_record import TrialRecord, read_lines

pytestmark = pytest.mark.filterwarnings("ignore")  # ray's own


@pytest.fixture
def pack(make_trial):
    return Pack((make_trial(), make_trial(seed=1)))


@pytest.fixture
def clock(monkeypatch):
    """Time that goes on only while somebody sleeps."""
    clock = SimpleNamespace(now=1000.0)
    stand_in = SimpleNamespace(
        monotonic=lambda: clock.now, sleep=lambda seconds: setattr(clock, "now", clock.now + seconds)
    )
    monkeypatch.setattr(sweep, "time", stand_in)
    return clock


@pytest.fixture
def told():
    return SimpleNamespace(ended=[], notices=[])


@pytest.fixture
def callback(pack, folder, told):
    observer = SimpleNamespace(
        pack_reported=lambda *_: None,
        pack_ended=lambda pack_id, statuses: told.ended.append(set(statuses.values())),
        noticed=told.notices.append,
    )
    return _ObserverCallback({pack.pack_id: pack}, folder, {}, observer, "sweep")


@pytest.fixture
def cached_absence(monkeypatch, clock):
    """As an NFS client: what was looked for once, and was not there, stays away for a minute."""
    missed = {}

    def read(path, offset=0):
        if path not in missed and not path.exists():
            missed[path] = clock.now
        return iter(()) if clock.now < missed.get(path, 0) + 60 else read_lines(path, offset)

    monkeypatch.setattr(trial_record, "read_lines", read)


def report(callback, pack, **more):
    result = {"share_done": 1.0, "trial_ids": [], "test_errors": [], "notices": [], "storage_problem": "", **more}
    callback.on_trial_result(1, [], ray_trial(pack), result)


def ray_trial(pack):
    return SimpleNamespace(config={"pack_id": pack.pack_id})


def end_records(pack, folder):
    for trial in pack.trials:
        TrialRecord(folder.record_path(trial.trial_id), trial, pack.pack_id, {}, sweep_id="sweep").end(schema.STATUS_OK)


def test_an_ended_pack_is_told_at_once(callback, pack, folder, told, clock):
    end_records(pack, folder)
    report(callback, pack, done=True)
    callback.on_trial_complete(1, [], ray_trial(pack))
    callback.wait_for_unseen()
    assert (told.ended, callback.ended, clock.now) == ([{"ok"}], {pack.pack_id}, 1000)


def test_an_interrupted_pack_has_not_ended(callback, pack, told):
    report(callback, pack, share_done=0.5)
    callback.on_trial_complete(1, [], ray_trial(pack))
    assert (told.ended, callback.unseen) == ([], {})


def test_records_that_are_seen_late_end_their_pack(callback, pack, folder, told, clock, cached_absence):
    assert trial_record.read_end(folder.record_path(pack.trials[0].trial_id)) == {}  # as the driver does at first
    end_records(pack, folder)
    report(callback, pack, done=True)
    callback.on_trial_complete(1, [], ray_trial(pack))
    callback.on_step_end(1, [])
    assert told.ended == []
    callback.wait_for_unseen()
    assert told.ended == [{"ok"}]
    assert 1060 <= clock.now <= 1062


def test_they_are_looked_for_while_others_train(callback, pack, folder, told, clock, cached_absence):
    assert trial_record.read_end(folder.record_path(pack.trials[0].trial_id)) == {}
    end_records(pack, folder)
    report(callback, pack, done=True)
    callback.on_trial_complete(1, [], ray_trial(pack))
    clock.now += 61
    callback.on_step_end(2, [])
    callback.on_step_end(3, [])
    assert (told.ended, callback.unseen) == ([{"ok"}], {})


def test_records_that_never_appear_are_no_interruption(callback, pack, folder, clock):
    report(callback, pack, done=True)
    callback.on_trial_complete(1, [], ray_trial(pack))
    with pytest.raises(StorageError, match=r"records do not appear in .*/some; let all nodes mount the same"):
        callback.wait_for_unseen()
    assert clock.now < 1100


@pytest.mark.parametrize("host", ["gpu-7", socket.gethostname()])
def test_a_node_that_cannot_write_is_named(callback, pack, host):
    with pytest.raises(StorageError) as raised:
        report(callback, pack, storage_problem="storage: cannot write", hostname=host)
    expected = "storage: cannot write (told by node gpu-7)" if host == "gpu-7" else "storage: cannot write"
    assert callback.storage_problem == str(raised.value) == expected


@pytest.mark.parametrize("damage", [None, "gone", "another"])
def test_a_worker_trains_in_the_drivers_folder_alone(monkeypatch, pack, folder, damage):
    reported, trained = [], []
    monkeypatch.setattr(sweep.tune, "report", reported.append)
    monkeypatch.setattr(processor, "prepare_processor", lambda: None)  # it would change this process
    monkeypatch.setattr(pack_training.PackTraining, "run", lambda self, notices: trained.append(self))
    key = folder.make_key()
    if damage == "gone":
        shutil.rmtree(folder.path)
    elif damage == "another":
        (folder.path / "key").write_text("that of a disk of this node\n")
    sweep.train_on_worker({"pack_id": "p"}, {"p": pack}, None, folder, key, "cuda", "s", "default", 60.0)
    assert [training.schedule.seconds for training in trained] == ([60.0] if damage is None else [])
    problems = [result["storage_problem"] for result in reported if result["storage_problem"]]
    reason = {"gone": "No such file or directory", "another": "it holds another study"}.get(damage)
    assert problems == (
        []
        if damage is None
        else [f"storage: {folder.path} is not the driver's folder ({reason}); mount the same file system on all nodes"]
    )


def test_a_sweep_that_waits_for_workers_says_so(callback, told, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(cluster.time, "monotonic", lambda: now[0])
    callback.waiting = cluster.WaitingNotices("cuda", lambda text: told.notices.append(now[0]))
    for second in range(1000):
        now[0] = float(second)
        status = "RUNNING" if second < 100 or 200 <= second < 220 else "PENDING"
        callback.on_step_end(second, [SimpleNamespace(status="TERMINATED"), SimpleNamespace(status=status)])
    assert told.notices == [130, 250, 550, 850]


@pytest.mark.parametrize(("device", "calls"), [("cuda", 1), ("cpu", None)])
def test_the_worker_that_measured_on_a_gpu_leaves_it(monkeypatch, device, calls):
    declared, remote = [], sweep.ray.remote

    def declare(**options):
        return lambda function: declared.append(remote(**options)(function)) or SimpleNamespace(remote=lambda *_: None)

    monkeypatch.setattr(sweep.ray, "remote", declare)
    monkeypatch.setattr(sweep.ray, "get", lambda _: "choice")
    assert sweep.choose_pack_size([], None, cluster.Cluster(device, 2)) == "choice"
    assert declared[0]._default_options.get("max_calls") == calls


@pytest.fixture
def sweep_over(monkeypatch, make_trial, folder, small_dataset, told):
    """Sweep over two packs of one trial each, its `packs`; Tune does `runs`, one at each of its `starts`."""
    packs = [Pack((make_trial(seed=seed),)) for seed in range(2)]
    observer = SimpleNamespace(
        pack_reported=lambda *_: None,
        pack_ended=lambda pack_id, statuses: told.ended.append((pack_id, *statuses.values())),
        noticed=told.notices.append,
    )
    starts = []
    monkeypatch.setattr(sweep.ray, "is_initialized", lambda: True)

    def run(*runs):
        def run_tune(pack_ids, manifest, dataset, folder, cluster, callback, *_):
            starts.append(pack_ids)
            runs[len(starts) - 1](callback, pack_ids)

        monkeypatch.setattr(sweep, "_run_tune", run_tune)
        here, choice = cluster.Cluster("cpu", 2, is_this_machine=True), PackChoice(1, 1, "")
        return sweep.run_packs(packs, small_dataset, folder, here, observer, choice)

    run.packs, run.starts = packs, starts
    return run


def end(folder, callback, pack):
    record_path = folder.record_path(pack.trials[0].trial_id)
    TrialRecord(record_path, pack.trials[0], pack.pack_id, {}, sweep_id=callback.sweep_id).end(schema.STATUS_OK)
    callback.on_trial_complete(1, [], ray_trial(pack))


def give_up(*_):
    raise RuntimeError("Tune gives up")


def test_where_tune_gives_up_a_new_sweep_goes_on_with_what_remains(sweep_over, folder, told):
    first, second = sweep_over.packs

    def end_one(callback, pack_ids):
        end(folder, callback, first)
        give_up()

    assert sweep_over(end_one, lambda callback, _: end(folder, callback, second))
    assert sweep_over.starts == [[first.pack_id, second.pack_id], [second.pack_id]]
    assert told.ended == [(first.pack_id, "ok"), (second.pack_id, "ok")]


@pytest.mark.parametrize("failures_before", [0, sweep.SWEEP_STARTS - 1])
@pytest.mark.parametrize("ray_is_gone", [False, True])
def test_where_tune_gives_up_when_all_is_done_the_study_is_done(
    sweep_over, folder, monkeypatch, failures_before, ray_is_gone
):
    def end_all(callback, pack_ids):
        for pack in sweep_over.packs:
            end(folder, callback, pack)
        monkeypatch.setattr(sweep.ray, "is_initialized", lambda: not ray_is_gone)
        give_up()

    assert sweep_over(*[give_up] * failures_before, end_all)
    assert len(sweep_over.starts) == failures_before + 1


def test_where_tune_gives_up_again_and_again_or_ray_is_gone_so_does_the_study(sweep_over, monkeypatch):
    with pytest.raises(sweep.SweepError, match=r"ray: the sweep cannot go on \(Tune gives up\)"):
        sweep_over(*[give_up] * sweep.SWEEP_STARTS)
    assert len(sweep_over.starts) == sweep.SWEEP_STARTS
    sweep_over.starts.clear()
    monkeypatch.setattr(sweep.ray, "is_initialized", lambda: False)
    with pytest.raises(sweep.SweepError):
        sweep_over(give_up)
    assert len(sweep_over.starts) == 1


def test_a_storage_that_workers_cannot_write_ends_the_sweep(sweep_over):
    with pytest.raises(StorageError, match=r"^storage: cannot write$"):
        sweep_over(lambda callback, _: report(callback, sweep_over.packs[0], storage_problem="storage: cannot write"))
    assert len(sweep_over.starts) == 1


def test_records_that_the_driver_cannot_read_end_the_sweep(sweep_over, folder, monkeypatch):
    def end_unread(callback, pack_ids):
        def refuse(path):
            raise StorageError(f"storage: cannot read {path.name}")

        monkeypatch.setattr(sweep, "read_end", refuse)
        try:
            callback.on_trial_complete(1, [], ray_trial(sweep_over.packs[0]))
        except StorageError:
            raise RuntimeError("as Tune has it") from None

    with pytest.raises(StorageError, match=r"^storage: cannot read .*\.jsonl$"):
        sweep_over(end_unread)
    assert len(sweep_over.starts) == 1


def test_a_pack_that_ray_gives_up_has_failed_and_says_why(sweep_over, folder, told):
    first, second = sweep_over.packs

    def lose_one(callback, pack_ids):
        lost = SimpleNamespace(config={"pack_id": first.pack_id}, get_error=lambda: "the node is gone")
        callback.on_trial_error(1, [], lost)
        end(folder, callback, second)

    assert sweep_over(lose_one)
    assert told.ended == [(first.pack_id, "failed"), (second.pack_id, "ok")]
    reason = trial_record.read_error(folder.record_path(first.trials[0].trial_id))
    assert reason == f"the pack's worker was lost {sweep.RESTARTS_AFTER_LOSS + 1} times; last: the node is gone"


def test_a_sweep_that_was_interrupted_has_not_come_to_its_end(sweep_over, folder):
    assert not sweep_over(lambda callback, _: end(folder, callback, sweep_over.packs[0]))
    assert len(sweep_over.starts) == 1
