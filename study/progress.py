"""Events of a running study → one live display in a terminal, elsewhere a line whenever a pack ends, 200 at most."""

import time
from collections.abc import Callable, Mapping, Sequence

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.text import Text

from study import run_log_schema as schema
from study.packing import Pack
from study.trial_config import TrialConfig
from study.work import training_flops

SHARE_PER_LINE = 1 / 200


class StudyProgress:
    """Counts packs and trials by their state; the remaining time is projected from the arithmetic done since it began.

    `epochs_before` says, by trial_id, of which epoch a checkpoint is that a trial goes on from.
    """

    def __init__(
        self,
        packs: Sequence[Pack],
        console: Console,
        notice: Callable[[], str | None],
        epochs_before: Mapping[str, int] | None = None,
    ) -> None:
        self.console, self.notice = console, notice
        self.packs = {pack.pack_id: pack for pack in packs}
        self.trials: dict[str, TrialConfig] = {trial.trial_id: trial for pack in packs for trial in pack.trials}
        self.pack_flops = {pack.pack_id: sum(map(training_flops, pack.trials)) for pack in packs}
        self.total_flops = sum(self.pack_flops.values()) or 1.0
        self.shares = {pack.pack_id: _share_before(pack, epochs_before or {}) for pack in packs}
        self.shares_before = dict(self.shares)
        self.running: set[str] = set()
        self.ended: set[str] = set()
        self.statuses: dict[str, str] = {}
        self.best: tuple[float, str] | None = None
        self._started = time.monotonic()
        self._first_work: float | None = None
        self._share_told = self._mean_over_work(self.shares)
        self._bar = Progress(TextColumn("{task.description}"), BarColumn(bar_width=None), TaskProgressColumn())
        self._task = self._bar.add_task("study", total=1.0)
        self._live = Live(console=console, get_renderable=self._render, refresh_per_second=2)

    def __enter__(self) -> "StudyProgress":
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.console.is_terminal:
            self._live.stop()

    def pack_reported(self, pack_id: str, share_done: float, test_errors: dict[str, float]) -> None:
        """Note how much of a pack is done and the newest test errors of its trials."""
        self._first_work = self._first_work or time.monotonic()
        if pack_id not in self.ended:
            self.running.add(pack_id)
            self.shares[pack_id] = share_done
            # Less than was believed, where a checkpoint could not be used.
            self.shares_before[pack_id] = min(share_done, self.shares_before[pack_id])
        for trial_id, error in test_errors.items():
            if self.best is None or error < self.best[0]:
                self.best = error, self.trials[trial_id].name

    def pack_ended(self, pack_id: str, statuses: dict[str, str]) -> None:
        """Note how the trials of a pack ended."""
        self.running.discard(pack_id)
        self.ended.add(pack_id)
        self.shares[pack_id] = 1.0
        self.statuses |= statuses
        share = self._mean_over_work(self.shares)
        if not self.console.is_terminal and (
            share >= self._share_told + SHARE_PER_LINE or len(self.ended) == len(self.packs)
        ):
            self._share_told = share
            self.console.print(self._summary(), soft_wrap=True, highlight=False)

    def _count(self, status: str) -> int:
        return sum(1 for value in self.statuses.values() if value == status)

    def _mean_over_work(self, shares: Mapping[str, float]) -> float:
        return sum(self.pack_flops[pack_id] * share for pack_id, share in shares.items()) / self.total_flops

    def _summary(self) -> str:
        share = self._mean_over_work(self.shares)
        parts = [
            f"packs {len(self.ended)}/{len(self.packs)} done"
            + (f", {len(self.running)} running" if self.console.is_terminal else ""),
            f"trials {len(self.statuses)}/{len(self.trials)} done",
        ]
        parts += [f"{self._count(status)} {status}" for status in (schema.STATUS_DIVERGED, schema.STATUS_FAILED)]
        if self.best is not None:
            parts.append(f"lowest test error so far {self.best[0]:.3f} ({self.best[1]})")
        done, left = share - self._mean_over_work(self.shares_before), 1 - share
        if self._first_work is not None and 0.02 * (done + left) < done and left > 0:
            remaining = (time.monotonic() - self._first_work) * left / done
            parts.append(f"about {format_duration(remaining)} left")
        return " · ".join(parts)

    def _render(self) -> Group:
        self._bar.update(
            self._task,
            completed=self._mean_over_work(self.shares),
            description=format_duration(time.monotonic() - self._started).rjust(8),
        )
        text = self._summary() if self._first_work is not None else "starting Ray …"
        lines: list[Progress | Text] = [self._bar, Text(text, style="dim", overflow="fold")]
        if notice := self.notice():
            lines.append(Text(f"MLflow does not answer, records wait on disk: {notice}", style="yellow"))
        return Group(*lines)


def _share_before(pack: Pack, epochs_before: Mapping[str, int]) -> float:
    """Return how much of a pack was done in earlier runs; the measurement before training counts as an epoch."""
    reached = [min(epochs_before.get(trial.trial_id, 0), trial.epochs) for trial in pack.trials]
    return sum(epoch + 1 for epoch in reached if epoch > 0) / sum(trial.epochs + 1 for trial in pack.trials)


def format_duration(seconds: float) -> str:
    """Write 3725 as `1 h 02 min`, 125 as `2 min 05 s`, 9 as `9 s`."""
    minutes, whole_seconds = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes} min {whole_seconds:02d} s" if minutes else f"{whole_seconds} s"
