"""One pack in a worker → the records and checkpoints of its trials, whatever happens to single members.

Needs neither ray nor mlflow. A trial goes on from its checkpoint where there is one that fits. When training together
raises, the pack is halved, down to the member whose fault it is; the others finish. When the worker itself was lost
again and again, its trials go on one by one, so that the one that kills workers is found and the others finish.
"""

import contextlib
import dataclasses
import gc
import math
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch

from study import run_log_schema as schema
from study.checkpoint import Checkpoint, CheckpointSchedule, read_checkpoint, write_checkpoint
from study.datasets import Dataset, describe_data
from study.environment import describe_environment
from study.packing import Pack
from study.record_writers import RecordWriters
from study.study_folder import StorageError, StudyFolder
from study.train_loop import MemberEpoch, train_pack
from study.trial_config import TrialConfig
from study.trial_record import (
    TrialRecord,
    describe_error,
    end_as_failed,
    has_ended,
    read_lines,
)

LOSSES_BEFORE_ALONE = 2
"""After so many lost workers in a row, without a checkpoint between them, a trial is trained alone."""
ATTEMPTS_BEFORE_DOUBT = 10
"""After so many, a checkpoint that this machine cannot use is no progress any more: workers of two models that a trial
kills in turn would begin again without end."""
LOSSES_BEFORE_FAILED = 3
"""After so many it is failed: the last of them it had a worker for itself."""


@dataclasses.dataclass(frozen=True)
class PackNews:
    """What a pack tells while it trains: its share of epochs done, newest test errors by trial_id, and notices."""

    share_done: float
    test_errors: Mapping[str, float]
    notices: Sequence[str] = ()

    def followed_by(self, later: "PackNews") -> "PackNews":
        """Return both in one."""
        errors = {**self.test_errors, **later.test_errors}
        return PackNews(later.share_done, errors, (*self.notices, *later.notices))


class PackTraining:
    """Trains the trials of a pack that have not ended yet, telling `report` after every epoch."""

    def __init__(
        self,
        pack: Pack,
        dataset: Dataset,
        folder: StudyFolder,
        device: str,
        report: Callable[[PackNews], None],
        sweep_id: str,
        checkpoint_seconds: float,
        pack_choice: str = "",
    ) -> None:
        self.pack, self.dataset, self.folder, self.device = pack, dataset, folder, device
        self.report, self.sweep_id, self.pack_choice = report, sweep_id, pack_choice
        self.schedule = CheckpointSchedule(checkpoint_seconds)
        self.epochs_done = {trial.trial_id: 0 for trial in pack.trials}
        self.environment: dict[str, str] = {}
        self.untold: list[str] = []

    def run(self, notices: Sequence[str] = ()) -> None:
        """Train; on return every trial has ended. The first news say how much is done already, and `notices`.

        Raises StorageError when records cannot be written, or they or checkpoints cannot be read.
        """
        self.untold = list(notices)
        remaining = []
        for trial in self.pack.trials:
            # Some may have ended before another worker of this pack was lost.
            if has_ended(self.folder.record_path(trial.trial_id), self.sweep_id):
                self.epochs_done[trial.trial_id] = trial.epochs + 1
            else:
                remaining.append(trial)
        try:
            self.environment = describe_environment(self.device) | describe_data(self.dataset)
        except Exception as error:
            for trial in remaining:
                self._end_as_failed(trial, describe_error(error))
            return
        self._train_all(remaining, in_new_worker=True)

    def _train_all(self, trials: Sequence[TrialConfig], in_new_worker: bool) -> None:
        """Train trials in as few groups as their checkpoints and earlier losses allow."""
        shortage, groups = "", {}
        try:
            groups = self._group(trials, in_new_worker)
        except MemoryError as error:
            shortage = describe_error(error)
        if shortage:  # outside of the handler, where the error would keep what was read alive
            self._halve(trials, shortage, in_new_worker)
        for key in sorted(groups):
            self._train_together(groups.pop(key))

    def _group(self, trials: Sequence[TrialConfig], in_new_worker: bool) -> "dict[tuple[int, int], list[_Beginning]]":
        """Return the beginnings of trials that can train together, and tell where they are.

        A trial that was lost too often ends as failed.
        """
        beginnings = [self._find_beginning(trial, in_new_worker) for trial in trials]
        groups: dict[tuple[int, int], list[_Beginning]] = defaultdict(list)
        for number, beginning in enumerate(beginnings):
            trial, losses = beginning.trial, beginning.losses
            if losses >= LOSSES_BEFORE_FAILED:
                self._note_failure(trial, f"the worker was lost {losses} times while it trained this trial")
                continue
            self.epochs_done[trial.trial_id] = beginning.epochs_done
            groups[beginning.epoch, number + 1 if losses >= LOSSES_BEFORE_ALONE else 0].append(beginning)
        self.untold += [beginning.notice for beginning in beginnings if beginning.notice]
        self._tell()
        return groups

    def _find_beginning(self, trial: TrialConfig, in_new_worker: bool) -> "_Beginning":
        """Look where a trial can go on, and how often its worker was lost since it last got further.

        An attempt of this sweep that has not ended is a loss, unless it was this worker's own. One that wrote a
        checkpoint got further, also where this worker cannot use it.
        """
        path = self.folder.record_path(trial.trial_id)
        lines = [line for line, _ in read_lines(path)]
        if not lines:
            return _Beginning(trial)
        start, reached, checkpoint, notice = lines[0], 0, None, ""
        try:
            found = read_checkpoint(
                self.folder.checkpoint_path(trial.trial_id), trial.trial_id, start.get("origin", "")
            )
            if found is not None:
                reached = found.epoch
                self._check_that_it_continues(lines, found)
                checkpoint = found
        except ValueError as error:
            notice = f"{trial.name} begins again: {error}"
        is_open = start.get("sweep") == self.sweep_id and lines[-1]["kind"] != "end"
        if checkpoint is None and start.get("attempts", 1) >= ATTEMPTS_BEFORE_DOUBT:
            reached = 0
        without_progress = is_open and reached <= start["resume_epoch"]
        losses = start["losses"] + in_new_worker if without_progress else 0
        return _Beginning(trial, checkpoint, losses, notice)

    def _check_that_it_continues(self, lines: Sequence[Mapping[str, Any]], checkpoint: Checkpoint) -> None:
        """Raise ValueError, in one line, when a checkpoint does not continue a record of these lines here."""
        changed = {
            name for name in self.environment if lines[0]["environment"].get(name) != self.environment[name]
        }  # what a run says about its origin must hold for all of its epochs
        if changed:
            raise ValueError(f"checkpoint: made with another {', '.join(sorted(changed))}")
        recorded = [line["epoch"] for line in lines if line["kind"] == "epoch"]
        if recorded[: checkpoint.epoch + 1] != list(range(checkpoint.epoch + 1)):
            raise ValueError(f"checkpoint: of epoch {checkpoint.epoch}, and epochs are missing from the record")

    def _train_together(self, beginnings: "list[_Beginning]") -> None:
        """Train trials as one pack; when that raises, the halves go on by themselves."""
        trials = [beginning.trial for beginning in beginnings]
        records: dict[str, TrialRecord] = {}
        error = self._train_group(beginnings, records)
        if error is None:
            return
        # What another worker has begun in this one's place is left to it.
        unfinished = [
            trial
            for trial in trials
            if (record := records.get(trial.trial_id)) is None or (not record.ended and record.is_current())
        ]
        self._halve(unfinished, error, in_new_worker=False, records=records)

    def _halve(
        self,
        trials: Sequence[TrialConfig],
        error: str,
        in_new_worker: bool,
        records: Mapping[str, TrialRecord] | None = None,
    ) -> None:
        """Train the halves of what ended in an error by themselves; a trial alone ends as failed with it."""
        if len(trials) == 1:
            self._end_as_failed(trials[0], error, (records or {}).get(trials[0].trial_id))
            return
        gc.collect()
        if self.device == "cuda":
            torch.cuda.empty_cache()
        middle = len(trials) // 2
        for half in (trials[:middle], trials[middle:]):
            if half:
                self._train_all(half, in_new_worker)

    def _train_group(self, beginnings: "list[_Beginning]", records: dict[str, TrialRecord]) -> str | None:
        """Train, record and checkpoint one group; return None, or the traceback of what ended it.

        Empties `beginnings`, whose states are large, once they are on the device.
        """
        trials = [beginning.trial for beginning in beginnings]
        begin_record = partial(self._begin_record, pack_size=len(beginnings))
        try:
            with RecordWriters() as writers:
                # On the disk before training, so that a lost worker is laid to what it trained.
                begun = writers.write_each(begin_record, beginnings)
                records |= {trial.trial_id: record for trial, record in zip(trials, begun, strict=True)}
                states = {b.trial.trial_id: b.checkpoint.state for b in beginnings if b.checkpoint is not None}
                for members in train_pack(trials, self.dataset, self.device, resume_from=states or None):
                    states.clear()
                    beginnings.clear()
                    if self._checkpoint_is_due(members):
                        writers.wait()
                        self._record_epoch(members, records, writers, with_checkpoints=True)
                    else:
                        writers.begin(partial(self._record_epoch, members, records, writers))
                writers.wait()
        except StorageError:
            raise
        except torch.AcceleratorError as error:
            # A kernel failed, and the device no longer works for this process, which is as good as lost. (Where CUDA
            # itself and not torch runs out of memory, this is the error, too, and the device is in order.)
            if "out of memory" not in str(error):
                raise
            return describe_error(error)
        except Exception as error:
            return describe_error(error)
        return None

    def _begin_record(self, beginning: "_Beginning", pack_size: int) -> TrialRecord:
        trial = beginning.trial
        if not beginning.epoch:
            path = self.folder.checkpoint_path(trial.trial_id)
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise StorageError.from_os(path, error) from None
        return TrialRecord(
            self.folder.record_path(trial.trial_id),
            trial,
            self.pack.pack_id,
            self.environment,
            sweep_id=self.sweep_id,
            resume_epoch=beginning.epoch,
            losses=beginning.losses,
            notice=beginning.notice,
            pack={schema.TAG_PACK_SIZE: str(pack_size), schema.TAG_PACK_CHOICE: self.pack_choice},
        )

    def _record_epoch(
        self,
        members: Sequence[MemberEpoch],
        records: Mapping[str, TrialRecord],
        writers: RecordWriters,
        with_checkpoints: bool = False,
    ) -> None:
        """Write an epoch, and the ends of trials whose last it is; tell it when all is on the disk.

        Checkpoints are of what the members are now, so that training has to wait for them.
        """
        epochs = self.pack.trials[0].epochs

        def write(member: MemberEpoch) -> None:
            record = records[member.trial_id]
            record.add_epoch(member)
            if member.epoch == epochs:
                record.end(schema.STATUS_OK)  # a diverged one has ended
            if record.ended and record.is_current():
                with contextlib.suppress(OSError):  # the driver removes what is left over
                    self.folder.checkpoint_path(member.trial_id).unlink(missing_ok=True)
            self.epochs_done[member.trial_id] = epochs + 1 if record.ended else member.epoch + 1

        writers.write_each(write, members)
        if with_checkpoints:
            self._write_checkpoints([member for member in members if not member.diverged], records)
        self._tell(members)

    def _checkpoint_is_due(self, members: Sequence[MemberEpoch]) -> bool:
        return 0 < members[0].epoch < self.pack.trials[0].epochs and self.schedule.is_due()

    def _write_checkpoints(self, members: Sequence[MemberEpoch], records: Mapping[str, TrialRecord]) -> None:
        started = time.monotonic()
        for member in members:
            path, record = self.folder.checkpoint_path(member.trial_id), records[member.trial_id]
            if not record.is_current():  # this worker was given up, and the file is its successor's
                continue
            try:
                write_checkpoint(path, Checkpoint(member.trial_id, record.origin, member.epoch, member.take_state()))
            except OSError as error:
                raise StorageError.from_os(path, error) from None
        self.schedule.note(started)

    def _end_as_failed(self, trial: TrialConfig, error: str, record: TrialRecord | None = None) -> None:
        """Note why a trial ended, and tell that it has."""
        self._note_failure(trial, error, record)
        self._tell()

    def _note_failure(self, trial: TrialConfig, error: str, record: TrialRecord | None = None) -> None:
        """Keep what was measured and why it ended; its checkpoint stays for whoever runs it again."""
        if record is not None:
            record.end(schema.STATUS_FAILED, error)
        else:
            path = self.folder.record_path(trial.trial_id)
            environment = self.environment or describe_data(self.dataset)
            end_as_failed(path, trial, self.pack.pack_id, environment, error, self.sweep_id)
        self.epochs_done[trial.trial_id] = trial.epochs + 1

    def _tell(self, members: Sequence[MemberEpoch] = ()) -> None:
        share = sum(self.epochs_done.values()) / (len(self.pack.trials) * (self.pack.trials[0].epochs + 1))
        # Before training a network guesses; a study that trains none has nothing else to tell.
        first = min(self.pack.trials[0].epochs, 1)
        told = [member for member in members if member.epoch >= first and not member.diverged]
        errors = {member.trial_id: member.metrics[schema.TEST_ERROR] for member in told}
        finite = {trial_id: error for trial_id, error in errors.items() if math.isfinite(error)}
        notices, self.untold = tuple(self.untold), []
        self.report(PackNews(share, finite, notices))


@dataclasses.dataclass(frozen=True)
class _Beginning:
    """Where a trial begins or goes on."""

    trial: TrialConfig
    checkpoint: Checkpoint | None = None
    losses: int = 0
    notice: str = ""

    @property
    def epoch(self) -> int:
        """The epoch that it goes on from; 0 where it begins."""
        return 0 if self.checkpoint is None else self.checkpoint.epoch

    @property
    def epochs_done(self) -> int:
        """Epochs that are recorded and stay, the measurement before training among them."""
        return 0 if self.checkpoint is None else self.checkpoint.epoch + 1
