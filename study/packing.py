"""Trials → packs: lists of trials that train together as one batch of matrix products.

Pure: the same trials always make the same packs, in the same order.
"""

import dataclasses
import hashlib
import itertools
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

from study.trial_config import TrialConfig
from study.work import training_flops

CPU_PACK, GPU_PACK = 4, 64
"""Trials per pack where nothing was measured: beyond, steps of networks of usual width hardly get faster."""


@dataclasses.dataclass(frozen=True)
class Pack:
    """Trials with equal `pack_key`, trained in one process."""

    trials: tuple[TrialConfig, ...]

    @property
    def pack_id(self) -> str:
        """8 hexadecimal digits hashed from the members' ids."""
        return hashlib.sha256(" ".join(trial.trial_id for trial in self.trials).encode()).hexdigest()[:8]


def make_packs(
    trials: Sequence[TrialConfig], max_pack: int, epochs_done: Mapping[str, int] | None = None
) -> list[Pack]:
    """Group trials by `pack_key` into packs of at most `max_pack`, evenly filled, the longest first.

    Trials that go on after different epochs, by trial_id in `epochs_done`, don't share a pack.

    Raises ValueError when `max_pack` is below 1 or a trial is given twice.
    """
    if max_pack < 1:
        raise ValueError(f"max_pack: {max_pack} is out of range; give 1 (every trial alone) or more")
    check_distinct(trials)
    begun = epochs_done or {}
    groups: dict[tuple, list[TrialConfig]] = defaultdict(list)
    for trial in trials:
        groups[trial.pack_key, begun.get(trial.trial_id, 0)].append(trial)
    packs: list[tuple[float, Pack]] = []
    for (_, epochs), group in groups.items():
        epochs_left = (group[0].epochs + 1 - epochs) / (group[0].epochs + 1)  # with the measurement before the first
        pack_count = math.ceil(len(group) / max_pack)
        bounds = [len(group) * index // pack_count for index in range(pack_count + 1)]
        for start, stop in itertools.pairwise(bounds):
            packs.append(((stop - start) * training_flops(group[0]) * epochs_left, Pack(tuple(group[start:stop]))))
    # Longest first: the last packs to run are short, so that the cores fall idle together.
    return [pack for _, pack in sorted(packs, key=lambda entry: -entry[0])]


def check_distinct(trials: Sequence[TrialConfig]) -> None:
    """Raise ValueError when two trials are equal: one of them would overwrite the other."""
    first_place: dict[str, int] = {}
    for place, trial in enumerate(trials):
        earlier = first_place.setdefault(trial.trial_id, place)
        if earlier != place:
            raise ValueError(
                f"trials: number {place + 1} repeats number {earlier + 1} ({trial.name}, trial_id {trial.trial_id}); "
                "remove one, or give them different seeds"
            )
