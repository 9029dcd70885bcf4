"""Options and trials of a study → everything checked, packs trained, runs in MLflow, a table in the terminal.

The driver's story, in order: whatever can be wrong with the request is found before Ray starts; what is finished is
left alone; training and sending go on side by side; the exit status says how it ended.
"""

import contextlib
import dataclasses
import functools
import gc
import importlib
import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from filelock import Timeout
from rich.console import Console

from study import run_log_schema as schema
from study.conclusion import Ending, conclude
from study.datasets import Dataset, check_sizes, describe_data, load_dataset, resolve_auto
from study.interruption import acknowledging_ctrl_c
from study.ledgers import known_as_sent, note_planned, note_sent
from study.mlflow_process import MlflowProcess, SendLater, Tracking
from study.packing import CPU_PACK, make_packs
from study.plan import print_plan
from study.quick_imports import quick_imports
from study.study_folder import CHECKPOINT_SECONDS, StorageError, StudyFolder, hold_file
from study.tracking import finished_trials
from study.tracking_uri import default_tracking_uri, without_secrets
from study.trial_config import TrialConfig
from study.trial_record import check_same_data, read_environment, read_status

LOST_HOST_SECONDS = 120.0
"""A server of NFS keeps the locks of a machine that it hears nothing from for about 90 s."""


@dataclasses.dataclass(frozen=True)
class StudyOptions:
    """What `python -m study run` was asked for; see its help."""

    name: str
    data: str
    data_folder: Path
    max_pack: int | None
    device: str
    storage: Path
    tracking_uri: str | None
    address: str | None
    dry_run: bool
    checkpoint_seconds: float = CHECKPOINT_SECONDS
    send_later: bool = False


def run_study(options: StudyOptions, trials: Sequence[TrialConfig], console: Console) -> int:
    """Run all trials that are not finished; returns the exit status.

    Raises ValueError for whatever is wrong with the request: before Ray starts, but for what Ray alone can tell.
    """
    if options.address is None:
        keep_ray_on_loopback()
    folder = StudyFolder(options.storage.resolve(), options.name)
    tracking_uri = options.tracking_uri or default_tracking_uri(options.storage)
    is_new = not os.path.isdir(folder.path)  # noqa: PTH112 -- unlike Path's, it says no to a name that is too long
    with contextlib.ExitStack() as stack:
        try:
            if not options.dry_run:
                folder.create()
            if _not_ended(trials, folder):
                _check_place(options)
            asks_nobody = options.dry_run or options.send_later
            tracking: Tracking = SendLater() if asks_nobody else MlflowProcess(tracking_uri, folder)
            stack.enter_context(tracking)
            if _not_ended(trials, folder) and not options.dry_run:
                # Beside the images and MLflow, which leave a core idle.
                threading.Thread(target=_import_ray, daemon=True).start()
            dataset = _prepare_images(options, trials, folder, console)
            tracking.check()
        except ValueError:
            if is_new:
                folder.remove_empty()  # of a study that never began
            raise
        if options.dry_run:
            _print_dry_run(options, trials, dataset, folder, console)
            return 0
        stack.enter_context(hold_study(folder, console))
        stack.push(tracking.__exit__)  # once more, before another driver may hold the study
        return _run_locked(options, trials, dataset, folder, tracking, tracking_uri, console)


def _prepare_images(
    options: StudyOptions, trials: Sequence[TrialConfig], folder: StudyFolder, console: Console
) -> Dataset:
    """Return the data set; raises ValueError when it is not that of the study, or is too small for the trials."""
    # Of any trial, also one that is not asked for now: a study has one data set.
    environments = map(read_environment, sorted((folder.path / "trials").glob("*.jsonl")))
    begun = next((environment for environment in environments if schema.TAG_DATA_CHECKSUM in environment), {})
    dataset = prepare_data(options, begun.get(schema.TAG_DATA), console)
    check_same_data(folder.name, begun, describe_data(dataset))
    for trial in trials:
        check_sizes(dataset, trial.train_size, trial.test_size, trial.batch_size, trial.probe_size)
    return dataset


def _not_ended(trials: Sequence[TrialConfig], folder: StudyFolder) -> list[TrialConfig]:
    """Return the trials whose records have not ended, or ended in a failure."""
    return [trial for trial in trials if read_status(folder.record_path(trial.trial_id)) not in schema.ENDED_STATUSES]


def _check_place(options: StudyOptions) -> None:
    """Raise ValueError when nothing can be trained where it was asked for."""
    if options.address is not None:
        from study.cluster import check_address

        check_address(options.address)
    elif options.device == "cuda":
        import torch

        if torch.cuda.is_available():
            return
        raise ValueError("device: 'cuda' was asked for and torch finds no GPU it can use here; use --device cpu")


def _import_ray() -> None:
    """Import Ray and Tune; the former first, so that Ray can start meanwhile."""
    with contextlib.suppress(Exception), quick_imports():  # who needs it next tells what is wrong
        importlib.import_module("study.cluster")
        importlib.import_module("study.training_session")


@contextlib.contextmanager
def hold_study(folder: StudyFolder, console: Console) -> Iterator[None]:
    """Be the only driver of a study; raises ValueError when there is another, on this machine or one that shares it.

    One on another machine is waited for, for LOST_HOST_SECONDS.
    """
    holder = folder.path / "driver"
    with contextlib.ExitStack() as stack:
        try:
            try:
                stack.enter_context(hold_file(folder.driver_lock, seconds=0))
            except Timeout:
                who = _read_holder(holder)
                if not who or who.endswith(f" on {socket.gethostname()}"):
                    raise
                waiting = (
                    f"Study {folder.name} is held by {who}. If that machine is lost, its lock goes in two minutes …"
                )
                console.print(waiting, style="yellow", highlight=False, markup=False, soft_wrap=True)
                stack.enter_context(hold_file(folder.driver_lock, seconds=LOST_HOST_SECONDS))
        except Timeout:
            who = _read_holder(holder) or "another process"
            raise ValueError(f"name: study {folder.name!r} is being run by {who}; wait, or choose another") from None
        stack.callback(holder.unlink, missing_ok=True)
        holder.write_text(f"process {os.getpid()} on {socket.gethostname()}\n")
        yield


def _read_holder(path: Path) -> str:
    with contextlib.suppress(FileNotFoundError):  # it goes with its driver
        return path.read_text().strip()
    return ""


def _print_dry_run(
    options: StudyOptions, trials: Sequence[TrialConfig], dataset: Dataset, folder: StudyFolder, console: Console
) -> None:
    """Print what a run would do on this data; writes nothing."""
    remaining = _not_ended(trials, folder)
    finished = len(trials) - len(remaining)
    console.print(f"{finished} of {len(trials)} trials are finished; a run would train the rest.", highlight=False)
    images = len(dataset.train_labels), len(dataset.test_labels)
    print_plan(options.name, remaining, make_packs(remaining, options.max_pack or CPU_PACK), console, images)


def _run_locked(
    options: StudyOptions,
    trials: Sequence[TrialConfig],
    dataset: Dataset,
    folder: StudyFolder,
    tracking: Tracking,
    tracking_uri: str,
    console: Console,
) -> int:
    note_planned(folder, trials)
    folder.make_key()  # before MLflow's process, or a worker, asks for it
    tracking.ask(describe_data(dataset), max(trial.epochs for trial in trials))
    shown_uri = without_secrets(tracking_uri, tracking_uri)
    ending = Ending(came_to_end=True)
    finished = finished_trials(tracking.wait_for_finished(), folder, [trial.trial_id for trial in trials])
    remaining = [trial for trial in trials if trial.trial_id not in finished]
    console.print(f"Study {options.name}: {len(trials)} trials, {len(finished)} of them finished before.")
    folder.remove_leftovers(ended=set(finished))
    with _joining_ray(options, console) if remaining else contextlib.nullcontext() as train:
        try:
            # MLflow itself is asked what it holds, unless it is not to be.
            sent_before = known_as_sent(folder, shown_uri, finished) if options.send_later else set()
            tracking.send(sorted(set(finished) - sent_before))
            if train is not None:
                ending = train(remaining, dataset, folder, tracking)
        finally:
            outcome = tracking.close()
        # From here on Ray stops meanwhile.
        note_what_was_sent(folder, shown_uri, outcome.sent, console)
        statuses = finished | {trial.trial_id: read_status(folder.record_path(trial.trial_id)) for trial in remaining}
        if ending.came_to_end:  # workers that were killed leave drafts
            folder.remove_leftovers(
                ended={name for name, status in statuses.items() if status in schema.ENDED_STATUSES}
            )
        return conclude(trials, statuses, folder, outcome, tracking_uri, ending, console)


@contextlib.contextmanager
def _joining_ray(options: StudyOptions, console: Console) -> Iterator[Callable[..., Ending]]:
    """Start or join Ray while what training needs is imported; leave it at the end. Gives what trains there."""
    console.print("Starting Ray …" if options.address is None else f"Joining the Ray cluster at {options.address} …")
    from study.cluster import ClusterConnection

    tell = functools.partial(console.print, style="yellow", highlight=False, markup=False, soft_wrap=True)
    with ClusterConnection(options.address, options.device, tell) as connection:
        with acknowledging_ctrl_c(console), quick_imports():
            from study.training_session import train_on_ray
        gc.freeze()  # what was imported stays, and need not be looked through again, at the end too
        yield functools.partial(train_on_ray, options, connection, console)


def note_what_was_sent(folder: StudyFolder, store: str, sent: Mapping[str, str], console: Console) -> None:
    """Write the ledger of what is in MLflow; nothing is lost where it cannot be written."""
    try:
        note_sent(folder, store, sent)
    except StorageError as error:
        console.print(f"`status` will not know what was sent: {error}", style="yellow", markup=False, soft_wrap=True)


def keep_ray_on_loopback() -> None:
    """Let a Ray that is started on this machine listen on loopback alone: whoever reaches its ports can run code.

    Ray reads this when it is imported, so this has to come first. The name is historical: on Linux, too, it says
    whether machines may join.
    """
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")


def prepare_data(options: StudyOptions, begun_on: str | None, console: Console) -> Dataset:
    """Load the data set that was asked for, saying what `auto` chose; `begun_on` is what the study has begun on."""
    specification = options.data
    if specification == "auto":
        if begun_on is None:
            specification, choice = resolve_auto(options.data_folder)
        else:
            specification = begun_on
            choice = f"Data: {begun_on}, as this study was begun; with another --name it is chosen anew."
        loud = specification == "synthetic"
        console.print(choice, style="bold black on yellow" if loud else None, highlight=False, markup=False)
    with console.status("Reading the images …"):
        return load_dataset(specification, options.data_folder)
