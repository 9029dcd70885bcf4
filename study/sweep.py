"""Packs and a data set → trained trials, fanned out by Ray Tune.

Tune schedules packs, starts them again when a worker or node is lost, and nothing else: what was measured goes to the
records in the study's storage (which all nodes share), `pack_training` sees to faults of trials, and resuming is a new
sweep over the packs that remain. What takes torch is imported in the workers: the driver does without.
"""

import os
import secrets
import shutil
import socket
import time
import warnings
from collections.abc import Sequence
from typing import Any, Protocol

# Read by Tune when it is imported or started: no banners, nothing that only a restore by Tune itself would need.
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("TUNE_PRINT_ALL_TRIAL_ERRORS", "0")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "3600")

import ray
from ray import tune

from study import pack_size
from study.cluster import Cluster, WaitingNotices
from study.datasets import Dataset, describe_data
from study.lean_ray import make_tune_lean
from study.pack_size import PackChoice
from study.packing import CPU_PACK, GPU_PACK, Pack
from study.quick_imports import quick_imports
from study.study_folder import CHECKPOINT_SECONDS, StorageError, StudyFolder
from study.trial_config import TrialConfig, one_line
from study.trial_record import end_as_failed, is_an_ending, read_end

RESTARTS_AFTER_LOSS = 100
"""How often a pack is started again after its worker was lost; `pack_training` gives single trials up earlier."""
SLOW = "Slow:"
"""How a notice begins that every worker gives."""
SWEEP_STARTS = 3
"""How often a sweep is begun, when Tune itself fails."""
UNSEEN_SECONDS = 90.0
"""How long after a pack's end its records may remain unseen: a client of NFS believes for up to 60 s that what it did
not find is not there."""
LOOK_SECONDS = 1.0
"""Between two looks for them."""


class SweepError(Exception):
    """The sweep cannot go on, for a reason of one line that lies outside of the trials."""


class SweepObserver(Protocol):
    """What a sweep tells while it runs; called from the driver's main thread."""

    def pack_reported(self, pack_id: str, share_done: float, test_errors: dict[str, float]) -> None:
        """A pack began (with a share of 0, perhaps again after its worker was lost) or finished an epoch."""

    def pack_ended(self, pack_id: str, statuses: dict[str, str]) -> None:
        """All trials of a pack have ended, by trial_id."""

    def noticed(self, notice: str) -> None:
        """Something that the user should know, in one line."""


def choose_pack_size(trials: Sequence[TrialConfig], dataset: Dataset, cluster: Cluster) -> PackChoice:
    """Choose on a worker of the cluster, whose memory and speed decide; a default where that is plain, or fails."""
    if cluster.is_this_machine and cluster.device == "cpu":
        default = pack_size.choose_default_size(trials, dataset, cluster.workers)
        if default is not None:
            return default
    # Ray ends a worker whose task had a GPU, and with it what it holds there, only if the task was declared with one.
    choose = ray.remote(num_cpus=1, num_gpus=1 if cluster.device == "cuda" else 0, max_retries=1)(_choose_pack_size)
    try:
        return ray.get(choose.remote(list(trials), dataset, cluster.device, cluster.workers))
    except ray.exceptions.RayError as error:
        size = GPU_PACK if cluster.device == "cuda" else CPU_PACK
        return PackChoice(size, packs_per_gpu=1, reason=f"default, as none could be chosen: {one_line(error)}")


def _choose_pack_size(trials: list[TrialConfig], dataset: Dataset, device: str, workers: int) -> PackChoice:
    from study.processor import prepare_processor

    prepare_processor()
    return pack_size.choose_pack_size(trials, dataset, device, workers)


def run_packs(
    packs: list[Pack],
    dataset: Dataset,
    folder: StudyFolder,
    cluster: Cluster,
    observer: SweepObserver,
    choice: PackChoice,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> bool:
    """Train all packs; return whether the sweep came to its end (False: it was interrupted).

    On return every trial of a pack that ended has an end in its record, failed ones with the reason. When Tune itself
    gives up, a new sweep goes on with the packs that remain.

    Raises:
        StorageError: records cannot be written, or they or checkpoints cannot be read, any more.
        SweepError: Ray is gone, or Tune gave up again and again.
    """
    manifest = {pack.pack_id: pack for pack in packs}
    waiting = None if cluster.is_this_machine else WaitingNotices(cluster.device, observer.noticed)
    callback = _ObserverCallback(manifest, folder, describe_data(dataset), observer, secrets.token_hex(4), waiting)
    for starts_left in reversed(range(SWEEP_STARTS)):
        remaining = [pack_id for pack_id in manifest if pack_id not in callback.ended | set(callback.unseen)]
        try:
            _run_tune(remaining, manifest, dataset, folder, cluster, callback, choice, checkpoint_seconds)
            break
        except Exception as error:  # Tune's failures have no common type
            if callback.ended | set(callback.unseen) == set(manifest):
                break
            if callback.storage_problem:
                raise StorageError(callback.storage_problem) from None
            folder.check_room()
            if not starts_left or not ray.is_initialized():
                raise SweepError(f"ray: the sweep cannot go on ({one_line(error)})") from None
    if callback.ended | set(callback.unseen) == set(manifest):  # else it was interrupted, and nobody waits
        callback.wait_for_unseen()
    return callback.ended == set(manifest)


def _run_tune(
    pack_ids: list[str],
    manifest: dict[str, Pack],
    dataset: Dataset,
    folder: StudyFolder,
    cluster: Cluster,
    callback: "_ObserverCallback",
    choice: PackChoice,
    checkpoint_seconds: float,
) -> None:
    trainable = tune.with_resources(
        tune.with_parameters(
            train_on_worker,
            manifest=manifest,
            dataset=dataset,
            folder=folder,
            folder_key=folder.make_key(),
            device=cluster.device,
            sweep_id=callback.sweep_id,
            pack_choice=choice.reason,
            checkpoint_seconds=checkpoint_seconds,
        ),
        {"CPU": 1, "GPU": 1 / choice.packs_per_gpu} if cluster.device == "cuda" else {"CPU": 1},
    )
    make_tune_lean()
    if cluster.is_this_machine:
        # Tune would ask for up to 200 placement groups at once, so that a cluster grows; this one does not.
        os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(cluster.workers)
    # Tune's own state is of no use after this sweep, and in the folder of an earlier one it would be mixed with it.
    tune_folder = folder.path / "ray"
    shutil.rmtree(tune_folder, ignore_errors=True)
    tuner = tune.Tuner(
        trainable,
        param_space={"pack_id": tune.grid_search(pack_ids)},
        tune_config=tune.TuneConfig(
            reuse_actors=True,
            trial_name_creator=lambda trial: f"pack-{trial.config['pack_id']}",
            trial_dirname_creator=lambda trial: f"pack-{trial.config['pack_id']}",
        ),
        run_config=tune.RunConfig(
            name=tune_folder.name,
            storage_path=str(folder.path),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=RESTARTS_AFTER_LOSS),
            callbacks=[callback],
        ),
    )
    try:
        tuner.fit()
    finally:
        shutil.rmtree(tune_folder, ignore_errors=True)


def train_on_worker(
    config: dict[str, Any],
    manifest: dict[str, Pack],
    dataset: Dataset,
    folder: StudyFolder,
    folder_key: str,
    device: str,
    sweep_id: str,
    pack_choice: str,
    checkpoint_seconds: float,
) -> None:
    """Train one pack in a Ray worker, recording every epoch before reporting it."""
    with quick_imports():
        from study.native_library import load_library
        from study.pack_reports import PackReports
        from study.pack_training import PackNews, PackTraining
        from study.processor import prepare_processor

    prepare_processor()
    slow: list[str] = []
    if device == "cpu":
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            load_library()  # it warns once per process
        slow = [f"{SLOW} {warning.message}" for warning in caught]

    def report(news: PackNews, **more: Any) -> None:
        tune.report(
            {
                "share_done": news.share_done,
                "trial_ids": list(news.test_errors),
                "test_errors": list(news.test_errors.values()),
                "notices": list(news.notices),
                "storage_problem": "",
                **more,
            }
        )

    pack = manifest[config["pack_id"]]
    reports = PackReports(report)
    training = PackTraining(pack, dataset, folder, device, reports.tell, sweep_id, checkpoint_seconds, pack_choice)
    try:
        folder.check_key(folder_key)
        with reports:
            training.run(slow)
    except StorageError as error:
        # Another worker could not write, or read, either, or this node has not what the others share: the driver is
        # told, and stops all of them.
        report(PackNews(0.0, {}), storage_problem=str(error))
    # With Tune's own word for the end, the driver goes on with the next pack at once, not after another report.
    report(reports.unreported, done=True)


class _ObserverCallback(tune.Callback):
    """Translates Tune's events on Ray trials into an observer's events on packs."""

    def __init__(
        self,
        manifest: dict[str, Pack],
        folder: StudyFolder,
        data_tags: dict[str, str],
        observer: SweepObserver,
        sweep_id: str,
        waiting: WaitingNotices | None = None,
    ) -> None:
        self.waiting = waiting
        self.manifest, self.folder, self.data_tags, self.observer = manifest, folder, data_tags, observer
        self.sweep_id, self.storage_problem = sweep_id, ""
        self.ended: set[str] = set()
        self.told_done: set[str] = set()
        self.unseen: dict[str, float] = {}  # packs that have ended by their workers' word, and since when
        self._next_look = 0.0

    def __reduce__(self) -> tuple:
        """Pickle as nothing: Tune stores its callbacks for a restore, which this study never does."""
        return tune.Callback, ()

    def on_trial_result(self, iteration: int, trials: list, trial: Any, result: dict, **info: Any) -> None:
        if "share_done" not in result:  # Tune adds a last result of its own
            return
        if result["storage_problem"]:
            host = result.get("hostname", socket.gethostname())
            where = "" if host == socket.gethostname() else f" (told by node {host})"
            self.storage_problem = result["storage_problem"] + where
            raise StorageError(self.storage_problem)  # ends the sweep
        for notice in result["notices"]:
            self.observer.noticed(notice)
        errors = dict(zip(result["trial_ids"], result["test_errors"], strict=True))
        self.observer.pack_reported(trial.config["pack_id"], result["share_done"], errors)
        if result.get("done"):
            self.told_done.add(trial.config["pack_id"])

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        pack_id = trial.config["pack_id"]
        # Tune announces recoveries and interruptions as completions, too.
        if not self._end(pack_id) and pack_id in self.told_done:
            self.unseen[pack_id] = time.monotonic()

    def on_trial_error(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        error = f"the pack's worker was lost {RESTARTS_AFTER_LOSS + 1} times; last: {trial.get_error()}"
        self._end(trial.config["pack_id"], error)

    def on_step_end(self, iteration: int, trials: list, **info: Any) -> None:
        self._look_for_unseen()
        if self.waiting and any(trial.status == "RUNNING" for trial in trials):
            self.waiting.goes_on()
        elif self.waiting:
            self.waiting.waits()

    def wait_for_unseen(self) -> None:
        """Return when the records of all packs that have ended are seen; raises StorageError where one stays away."""
        self._look_for_unseen()
        while self.unseen:
            if time.monotonic() > max(self.unseen.values()) + UNSEEN_SECONDS:
                raise StorageError(
                    f"storage: workers have ended packs whose records do not appear in {self.folder.path}; let all "
                    "nodes mount the same file system there"
                )
            time.sleep(LOOK_SECONDS)
            self._look_for_unseen()

    def _look_for_unseen(self) -> None:
        if self.unseen and time.monotonic() >= self._next_look:
            self.unseen = {pack_id: since for pack_id, since in self.unseen.items() if not self._end(pack_id)}
            self._next_look = time.monotonic() + LOOK_SECONDS

    def _end(self, pack_id: str, error: str = "") -> bool:
        """Note and tell that a pack has ended, if all of its trials have; with an `error`, the others end as failed."""
        try:
            return self._end_if_all_have(pack_id, error)
        except StorageError as problem:
            self.storage_problem = str(problem)  # Tune passes on another exception
            raise

    def _end_if_all_have(self, pack_id: str, error: str) -> bool:
        pack = self.manifest[pack_id]
        statuses = {}
        for member in pack.trials:
            path = self.folder.record_path(member.trial_id)
            end = read_end(path)
            if not is_an_ending(end, self.sweep_id):
                if not error:
                    return False
                end_as_failed(path, member, pack.pack_id, self.data_tags, error, self.sweep_id)
                end = read_end(path)
            statuses[member.trial_id] = end.get("status", "")
        self.ended.add(pack_id)
        self.observer.pack_ended(pack_id, statuses)
        return True
