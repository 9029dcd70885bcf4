"""What is chosen for memory, workers and measured times; and what a pack really takes."""

import dataclasses
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from study import pack_size, trial_times, work
from study.pack_size import (
    choose_default_size,
    choose_pack_size,
    largest_pack,
    member_bytes,
    most_member_bytes,
    smallest_good_size,
    state_bytes,
)
from study.packing import CPU_PACK, make_packs
from study.trial_times import measure_trial_seconds

PLENTY = 1 << 40


@pytest.fixture(autouse=True)
def _plenty_of_memory(monkeypatch):
    monkeypatch.setattr(pack_size, "free_memory", lambda device: PLENTY)


def test_no_worker_is_left_idle(make_trial, small_dataset):
    trials = [make_trial(seed=seed) for seed in range(40)]
    assert choose_pack_size(trials, small_dataset, "cpu", workers=1).size == CPU_PACK
    assert len(make_packs(trials, choose_pack_size(trials, small_dataset, "cpu", workers=4).size)) >= 4
    assert choose_pack_size(trials[:1], small_dataset, "cpu", workers=16).size == 1


def test_a_pack_fits_into_the_memory_that_its_worker_has(make_trial, small_dataset, monkeypatch):
    trials = [make_trial(seed=seed, depth=depth) for seed in range(40) for depth in (3, 50)]
    of_three = 3.5 * member_bytes(trials[1], small_dataset) + state_bytes(trials[1], small_dataset)
    for_three = of_three / pack_size.MEMORY_SHARE
    monkeypatch.setattr(pack_size, "free_memory", lambda device: int(2 * for_three))
    monkeypatch.setattr(pack_size.os, "cpu_count", lambda: 2)
    choice = choose_pack_size(trials, small_dataset, "cpu", workers=2)
    assert choice.size == 3
    assert "GB" in choice.reason
    assert largest_pack(trials[1], small_dataset, 10) == 1
    wide = [make_trial(seed=seed, width=400) for seed in range(4)]  # less depth · width, and more weights
    assert member_bytes(wide[0], small_dataset) > member_bytes(trials[1], small_dataset)
    least = 2.5 * member_bytes(wide[0], small_dataset) / pack_size.MEMORY_SHARE
    monkeypatch.setattr(pack_size, "free_memory", lambda device: int(least))
    assert choose_pack_size(trials + wide, small_dataset, "cpu", workers=1).size == 2


@pytest.mark.parametrize(("count", "workers"), [(40, 2), (40, 16), (3, 4), (1, 1)])
def test_the_driver_knows_the_default_by_itself(make_trial, small_dataset, count, workers):
    trials = [make_trial(seed=seed) for seed in range(count)]
    assert choose_default_size(trials, small_dataset, workers) == choose_pack_size(
        trials, small_dataset, "cpu", workers
    )


def test_a_worker_is_asked_where_memory_is_scarce_or_the_study_long(make_trial, small_dataset, monkeypatch):
    trials = [make_trial(seed=seed, depth=depth) for seed in range(40) for depth in (3, 50)]
    of_default = (CPU_PACK + 1) * max(most_member_bytes(trial, small_dataset) for trial in trials)
    monkeypatch.setattr(pack_size, "free_memory", lambda device: int(0.99 * of_default / pack_size.MEMORY_SHARE))
    assert choose_default_size(trials, small_dataset, workers=1) is None
    monkeypatch.setattr(pack_size, "free_memory", lambda device: int(1.01 * of_default / pack_size.MEMORY_SHARE))
    assert choose_default_size(trials, small_dataset, workers=1) is not None
    monkeypatch.setattr(work, "MEASURE_FROM_FLOPS", 0)
    assert choose_default_size(trials, small_dataset, workers=1) is None


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_no_member_takes_more_than_the_driver_reckons_with(make_trial, small_dataset, optimizer, precision):
    trial = make_trial(depth=20, optimizer=optimizer, precision=precision)
    assert most_member_bytes(trial, small_dataset) >= member_bytes(trial, small_dataset)


def test_long_studies_are_measured(make_trial, small_dataset, monkeypatch):
    trials = [make_trial(seed=seed) for seed in range(64)]
    monkeypatch.setattr(work, "MEASURE_FROM_FLOPS", 0)
    monkeypatch.setattr(trial_times, "measure_trial_seconds", lambda *_: {1: 9, 2: 6, 4: 5.1, 8: 5, 16: 1234.5})
    choice = choose_pack_size(trials, small_dataset, "cpu", workers=2)
    assert (choice.size, choice.packs_per_gpu) == (4, 1)
    assert choice.reason == "measured seconds per trial: 1: 9, 2: 6, 4: 5.1, 8: 5, 16: 1234"


def test_the_trial_that_is_measured_is_typical(make_trial, small_dataset, monkeypatch):
    trials = [make_trial(seed=seed, depth=depth) for seed in range(3) for depth in (3, 20, 60)]
    measured = []
    monkeypatch.setattr(work, "MEASURE_FROM_FLOPS", 0)
    monkeypatch.setattr(
        trial_times, "measure_trial_seconds", lambda trial, *_: measured.append(trial.depth) or {1: 1.0}
    )
    choose_pack_size(trials, small_dataset, "cpu", workers=2)
    assert measured == [20]


def test_packs_that_do_not_fill_a_gpu_share_it(make_trial, small_dataset):
    trials = [make_trial(seed=seed, depth=depth) for seed in range(12) for depth in range(3, 13)]
    assert choose_pack_size(trials, small_dataset, "cuda", workers=1).packs_per_gpu == 64 // 12
    assert choose_pack_size(trials[::5], small_dataset, "cuda", workers=1).packs_per_gpu == 2


def test_no_more_packs_share_a_gpu_than_fit_with_their_probes(make_trial, small_dataset, monkeypatch):
    trials = [make_trial(seed=seed, depth=depth) for seed in range(12) for depth in range(3, 13)]
    monkeypatch.setattr(pack_size, "free_memory", lambda device: 10 << 30)
    assert choose_pack_size(trials, small_dataset, "cuda", workers=1).packs_per_gpu == 3
    monkeypatch.setattr(pack_size, "free_memory", lambda device: 2 << 30)
    assert choose_pack_size(trials, small_dataset, "cuda", workers=1).packs_per_gpu == 1


def test_packs_are_spread_over_all_gpus(make_trial, small_dataset):
    trials = [make_trial(seed=seed, depth=depth) for seed in range(12) for depth in range(3, 11)]
    assert choose_pack_size(trials, small_dataset, "cuda", workers=8).packs_per_gpu == 1
    assert choose_pack_size(trials, small_dataset, "cuda", workers=3).packs_per_gpu == 3


def test_the_smallest_of_equally_good_sizes():
    assert smallest_good_size({1: 3.0, 2: 2.0, 4: 1.04, 8: 1.0, 16: 1.2}) == 4
    assert smallest_good_size({1: 1.0}) == 1


def test_measured_sizes_double_and_are_positive(make_trial, small_dataset):
    seconds = measure_trial_seconds(make_trial(), small_dataset, "cpu", largest=4)
    assert list(seconds) == [1, 2, 4]
    assert all(value > 0 for value in seconds.values())


def test_what_a_pack_takes_is_shared_by_its_trials(make_trial, small_dataset, monkeypatch):
    taken = iter([0.02, 3.0, 0.05, 4.0])  # of a step and of evaluating the sample: alone, then of two
    monkeypatch.setattr(trial_times, "_quickest", lambda *_, **__: next(taken))
    trial = make_trial(epochs=3)
    train, test = trial.train_size or len(small_dataset.train_labels), len(small_dataset.test_labels)
    steps, evaluated = 3 * (train // trial.batch_size), 4 * (train + (trial.test_size or test)) / train
    seconds = measure_trial_seconds(trial, small_dataset, "cpu", largest=2)
    assert seconds[1] == pytest.approx(pack_size.PACK_SECONDS + steps * 0.02 + evaluated * 3)
    assert seconds[2] == pytest.approx((pack_size.PACK_SECONDS + steps * 0.05 + evaluated * 4) / 2)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads peak memory from /proc")
@pytest.mark.parametrize(
    "fields",
    [
        {"optimizer": "adam", "precision": "fp32"},
        {"optimizer": "sgd", "precision": "bf16"},
        {"optimizer": "adam", "precision": "bf16", "clipping": "norm"},
        {"optimizer": "sgd", "precision": "fp32", "clipping": "value", "layerwise_step_sizes": True},
    ],
)
def test_memory_grows_as_is_reckoned(make_trial, small_dataset, fields):
    trial = make_trial(depth=20, width=150, batch_size=100, epochs=1, **fields)
    code = (
        "import pickle, sys\n"
        "from study.processor import prepare_processor\n"
        "from study.train_loop import train_pack\n"
        "prepare_processor()\n"  # else threads get into each other's way
        "trials, dataset = pickle.load(sys.stdin.buffer)\n"
        "list(train_pack(trials, dataset))\n"
        "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))\n"
    )

    def peak(members):
        trials = [dataclasses.replace(trial, seed=seed) for seed in range(members)]
        done = subprocess.run(
            [sys.executable, "-c", code], input=pickle.dumps((trials, small_dataset)), capture_output=True, check=True
        )
        return int(done.stdout) * 1024

    growth = (peak(17) - peak(5)) / 12
    assert growth == pytest.approx(member_bytes(trial, small_dataset), rel=0.35)
