"""Trials that are not finished → packs trained on Ray, seen in the terminal and told to MLflow's process."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console

from study import sweep
from study.checkpoint import read_epoch
from study.cluster import ClusterConnection
from study.conclusion import Ending
from study.datasets import Dataset
from study.interruption import acknowledging_ctrl_c
from study.mlflow_process import Tracking
from study.pack_size import PackChoice
from study.packing import Pack, make_packs
from study.progress import StudyProgress
from study.study_folder import StorageError, StudyFolder
from study.trial_config import TrialConfig

if TYPE_CHECKING:
    from study.driver import StudyOptions


def train_on_ray(
    options: "StudyOptions",
    connection: ClusterConnection,
    console: Console,
    trials: Sequence[TrialConfig],
    dataset: Dataset,
    folder: StudyFolder,
    tracking: Tracking,
) -> Ending:
    """Train with a progress display, and begin to leave Ray. Raises ValueError when it cannot be joined."""
    with acknowledging_ctrl_c(console):
        cluster = connection.wait()
    try:
        if options.max_pack is None:
            choice = sweep.choose_pack_size(trials, dataset, cluster)
            console.print(f"Packs of at most {choice.size} ({choice.reason}).", highlight=False)
        else:
            choice = PackChoice(options.max_pack, packs_per_gpu=1, reason="as was asked for")
        epochs_done = {trial.trial_id: read_epoch(folder.checkpoint_path(trial.trial_id)) for trial in trials}
        packs = make_packs(trials, choice.size, epochs_done)
        progress = StudyProgress(packs, console, lambda: tracking.problem, epochs_done)
        observer = _Observer(packs, progress, tracking, console)
        with progress:
            came_to_end = sweep.run_packs(packs, dataset, folder, cluster, observer, choice, options.checkpoint_seconds)
        tracking.hurry()  # while Ray stops
        return Ending(came_to_end)
    except (StorageError, sweep.SweepError) as error:
        return Ending(came_to_end=False, problem=str(error))
    finally:
        connection.leave()


class _Observer:
    """Passes what the sweep tells on to the display and to MLflow's process."""

    def __init__(self, packs: Sequence[Pack], progress: StudyProgress, tracking: Tracking, console: Console) -> None:
        self.members = {pack.pack_id: [trial.trial_id for trial in pack.trials] for pack in packs}
        self.progress, self.tracking, self.console = progress, tracking, console
        self.told_as_slow: set[str] = set()

    def noticed(self, notice: str) -> None:
        if notice.startswith(sweep.SLOW):
            if notice in self.told_as_slow:
                return
            self.told_as_slow.add(notice)
        self.console.print(notice, style="yellow", highlight=False, markup=False, soft_wrap=True)

    def pack_reported(self, pack_id: str, share_done: float, test_errors: dict[str, float]) -> None:
        self.progress.pack_reported(pack_id, share_done, test_errors)
        if share_done:  # something has been measured
            self.tracking.send(self.members[pack_id], ended=False)

    def pack_ended(self, pack_id: str, statuses: dict[str, str]) -> None:
        self.progress.pack_ended(pack_id, statuses)
        self.tracking.send(self.members[pack_id])
