"""The trials of a study and a device → how many of them to train together, from memory and measured times.

A pack that is too small leaves a device idle between calls, one that is too large runs out of memory or of caches.
What is chosen changes no result on a CPU, where members are bitwise independent of their pack; on a GPU the kernels of
products depend on its size, and with them the last bits.

Torch takes seconds to import, and the driver does without: what needs it is imported where a worker asks for it.
"""

import dataclasses
import math
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from study.datasets import Dataset
from study.packing import CPU_PACK, GPU_PACK, make_packs
from study.trial_config import TrialConfig
from study.work import EVALUATION_BATCH, is_worth_measuring, training_flops, weight_count

LARGEST_PACK = 256
ENOUGH = 1.05
"""The smallest pack is chosen whose trials take at most this many times as long as those of the best one."""
PACK_SECONDS = 0.1
"""What a pack takes of a core, whatever its size, to be handed out, begun and told. Reckoned from the overhead of 300
trials in packs of 4 and of 1 (benchmarks/results): 0.07 s on 25 November (Zen 4), 0.2 on the 28th (Zen 3, noisy)."""
MEMORY_SHARE = 0.5
"""Of the memory that is free; the rest is for measurements, other processes and what is not counted."""
MOST_PACKS_PER_GPU = 8
GPU_PROCESS_BYTES = 1 << 30
"""What a process takes of a GPU beside its pack and its probes: CUDA itself, images, evaluation (reckoned)."""
DEFAULT_REASON = "default of the device"


@dataclasses.dataclass(frozen=True)
class PackChoice:
    """Trials per pack, packs per GPU at once, and in one line how they were chosen."""

    size: int
    packs_per_gpu: int
    reason: str


def choose_pack_size(trials: Sequence[TrialConfig], dataset: Dataset, device: str, workers: int) -> PackChoice:
    """Choose for trials that `workers` processes like this one share; measures when it pays. For a worker to call."""
    memory_bytes = _memory_of_worker(device, workers)
    fitting = min(largest_pack(trial, dataset, memory_bytes, device) for trial in trials)
    if is_worth_measuring(trials):
        from study.trial_times import measure_trial_seconds

        mean = sum(map(training_flops, trials)) / len(trials)
        typical = min(trials, key=lambda trial: abs(training_flops(trial) - mean))
        seconds = measure_trial_seconds(typical, dataset, device, min(fitting, LARGEST_PACK))
        filling = smallest_good_size(seconds)
        shown = {size: f"{value:.0f}" if value > 999 else f"{value:.3g}" for size, value in seconds.items()}
        reason = "measured seconds per trial: " + ", ".join(f"{size}: {text}" for size, text in shown.items())
    else:
        filling = min(fitting, GPU_PACK if device == "cuda" else CPU_PACK)
        reason = DEFAULT_REASON if filling < fitting else f"what fits into {memory_bytes / 1e9:.3g} GB"
    size = _shared_size(filling, trials, workers)
    largest_group = max(Counter(trial.pack_key for trial in trials).values())
    packs_per_gpu = 1
    if device == "cuda":
        from study.probes import PROBE_BYTES

        # No more than each GPU gets when all have equally many: Ray fills one GPU after the other.
        of_each = math.ceil(len(make_packs(trials, size)) / workers)
        members, of_member = min(size, largest_group), max(member_bytes(trial, dataset, device) for trial in trials)
        fitting_packs = memory_bytes // (members * of_member + PROBE_BYTES + GPU_PROCESS_BYTES)
        packs_per_gpu = max(1, min(MOST_PACKS_PER_GPU, of_each, filling // members, fitting_packs))
    return PackChoice(size, packs_per_gpu, reason)


def choose_default_size(trials: Sequence[TrialConfig], dataset: Dataset, workers: int) -> PackChoice | None:
    """Return what `choose_pack_size` would for this machine's CPUs, if that takes no look at how a worker trains."""
    free, more_than_default = int(MEMORY_SHARE * _memory_of_worker("cpu", workers)), CPU_PACK + 1
    if is_worth_measuring(trials) or any(free < more_than_default * most_member_bytes(t, dataset) for t in trials):
        return None
    return PackChoice(_shared_size(CPU_PACK, trials, workers), packs_per_gpu=1, reason=DEFAULT_REASON)


def _memory_of_worker(device: str, workers: int) -> int:
    # A GPU is one worker's, or shared by packs that are small; cores share the memory of their machine.
    return free_memory(device) // (1 if device == "cuda" else min(workers, os.cpu_count() or 1))


def _shared_size(filling: int, trials: Sequence[TrialConfig], workers: int) -> int:
    """Return the size that is so much smaller than `filling` that every worker has a pack."""
    size = filling
    while size > 1 and len(make_packs(trials, size)) < workers:
        size //= 2
    return size


def smallest_good_size(seconds: dict[int, float]) -> int:
    """Return the smallest size that is as good as the best; `seconds` per trial, by size."""
    best = min(seconds.values())
    return min(size for size, value in seconds.items() if value <= ENOUGH * best)


def largest_pack(trial: TrialConfig, dataset: Dataset, memory_bytes: int, device: str = "cpu") -> int:
    """Return how many members fit, at least 1."""
    free = int(MEMORY_SHARE * memory_bytes)
    if _goes_one_by_one(trial, device):
        free -= state_bytes(trial, dataset)
    return max(1, free // member_bytes(trial, dataset, device))


def member_bytes(trial: TrialConfig, dataset: Dataset, device: str = "cpu") -> int:
    """Return what one more member adds to a pack: parameters, their moments and gradients.

    States and inputs, too, where all members are trained at once; else those of one serve all.
    """
    from study.native_library import load_library
    from study.train_loop import is_worth_compiling

    compiled = is_worth_compiling(trial, trial.train_size or len(dataset.train_labels), device)
    if device == "cpu" and load_library() is None:
        compiled = False
    return _member_bytes(trial, dataset, compiled, one_by_one=_goes_one_by_one(trial, device))


def most_member_bytes(trial: TrialConfig, dataset: Dataset) -> int:
    """Return what one more member adds to a pack where it is trained in the way that takes most."""
    return _member_bytes(trial, dataset, compiled=False, one_by_one=False)


def _member_bytes(trial: TrialConfig, dataset: Dataset, compiled: bool, one_by_one: bool) -> int:
    inputs, product_bytes = dataset.train_images.shape[1], 2 if trial.precision == "bf16" else 4
    weights = weight_count(trial, inputs, len(dataset.classes))
    moments = 2 if trial.optimizer == "adam" else 1
    between = 0 if compiled else 12  # else whole tensors are made of what lies between operations
    if changes := (trial.clipping != "none") + trial.layerwise_step_sizes:
        # Gradients in fp32 if they were shorter, changed ones, and a stacked tensor of them in float64.
        between += (4 if trial.precision == "bf16" else 0) + 4 * changes + 8
    of_weights = weights * (4 + 4 * moments + between + product_bytes * (3 if trial.precision == "bf16" else 1))
    of_weights += 8 * max(inputs, trial.width) * trial.width  # a layer's gradient in float64, when norms are taken
    evaluation = 4 * EVALUATION_BATCH * trial.width * 4
    return of_weights + evaluation + (0 if one_by_one else state_bytes(trial, dataset))


def state_bytes(trial: TrialConfig, dataset: Dataset) -> int:
    """Return what the states and inputs take of members that go through the network at once, each."""
    inputs, product_bytes = dataset.train_images.shape[1], 2 if trial.precision == "bf16" else 4
    states = (trial.depth + 6) * trial.batch_size * trial.width * 4
    return states + trial.batch_size * inputs * (product_bytes + 1)


def _goes_one_by_one(trial: TrialConfig, device: str) -> bool:
    """Say whether one member after the other goes through the network, in the same tensors."""
    import torch

    from study.backpropagation import PRODUCT_DTYPES
    from study.member_products import multiplies_natively

    return multiplies_natively(device, PRODUCT_DTYPES[trial.precision] or torch.float32)


def free_memory(device: str) -> int:
    """Return the bytes that are free on a device, or on this machine within the limit of its control group."""
    if device == "cuda":
        import torch

        return torch.cuda.mem_get_info()[0]
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for line in _read_lines(Path("/proc/meminfo")):
        if line.startswith("MemAvailable:"):
            free = int(line.split()[1]) * 1024
    group = Path("/sys/fs/cgroup")
    limit, used = (_read_lines(group / name) for name in ("memory.max", "memory.current"))
    if limit and used and limit[0] != "max":
        # Files that were read count as used, and give way when memory is wanted.
        cache = [
            int(line.split()[1]) for line in _read_lines(group / "memory.stat") if line.startswith("inactive_file ")
        ]
        free = min(free, max(int(limit[0]) - int(used[0]) + sum(cache), 0))
    return free


def _read_lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
