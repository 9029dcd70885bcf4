"""What a running study tells where there is no terminal."""

import io

import pytest
from rich.console import Console

from study import progress
from study.packing import Pack
from study.progress import StudyProgress


def follow(packs, epochs_before=None):
    return StudyProgress(packs, Console(file=io.StringIO(), width=80), lambda: None, epochs_before)


def lines_of(packs, order):
    with follow(packs) as study:
        for pack in order:
            study.pack_reported(pack.pack_id, 0.0, {})
            study.pack_ended(pack.pack_id, {trial.trial_id: "ok" for trial in pack.trials})
    return study.console.file.getvalue().splitlines()


@pytest.fixture
def clock(monkeypatch):
    """Seconds that `progress` believes have passed, in a list of one."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_a_small_study_tells_every_pack(make_trial):
    packs = [Pack((make_trial(seed=seed),)) for seed in range(5)]
    lines = lines_of(packs, packs)
    assert [line.split(" · ")[0] for line in lines] == [f"packs {done}/5 done" for done in range(1, 6)]


def test_a_large_study_tells_its_progress_in_some_hundred_lines_and_its_end(make_trial):
    packs = [Pack((make_trial(seed=seed),)) for seed in range(1_000)]
    lines = lines_of(packs, packs)
    assert 150 <= len(lines) <= 201
    assert lines[-1].startswith("packs 1000/1000 done · trials 1000/1000 done")


def test_the_lowest_error_so_far_is_told_with_whose_it_is(make_trial):
    pack = Pack((make_trial(seed=0), make_trial(seed=1)))
    study = follow([pack])
    first, second = pack.trials
    study.pack_reported(pack.pack_id, 0.2, {first.trial_id: 0.5, second.trial_id: 0.4})
    study.pack_reported(pack.pack_id, 0.4, {first.trial_id: 0.45, second.trial_id: 0.6})
    assert f"lowest test error so far 0.400 ({second.name})" in study._summary()


def test_work_that_is_done_again_counts_once(make_trial, clock):
    """Of a checkpoint that cannot be used after all, or of a pack that was lost."""
    packs = [Pack((make_trial(seed=seed, epochs=9),)) for seed in range(2)]
    study = follow(packs, {pack.trials[0].trial_id: 4 for pack in packs})
    for pack in packs:
        study.pack_reported(pack.pack_id, 0.0, {})
    clock[0] += 60
    for pack in packs:
        study.pack_reported(pack.pack_id, 0.2, {})
    assert study._summary().endswith("about 4 min 00 s left")
    for pack in packs:
        study.pack_reported(pack.pack_id, 0.1, {})
    assert study._summary().endswith("about 9 min 00 s left")


def test_a_damaged_checkpoint_counts_for_no_more_than_its_trial(make_trial):
    trials = make_trial(seed=0, epochs=9), make_trial(seed=1, epochs=9)
    study = follow([Pack(trials)], {trials[0].trial_id: 10**9, trials[1].trial_id: -5})
    assert list(study.shares.values()) == [0.5]


@pytest.mark.parametrize(
    ("epochs_before", "left"),
    [
        pytest.param(0, "about 9 min 00 s left", id="a tenth in a minute"),
        pytest.param(4, "about 4 min 00 s left", id="five tenths are of an earlier run"),
    ],
)
def test_the_remaining_time_is_projected_from_what_was_done_since(make_trial, clock, epochs_before, left):
    packs = [Pack((make_trial(seed=seed, epochs=9),)) for seed in range(2)]
    study = follow(packs, {pack.trials[0].trial_id: epochs_before for pack in packs})
    share_before = (epochs_before + 1) / 10 if epochs_before else 0.0
    for pack in packs:
        study.pack_reported(pack.pack_id, share_before, {})
    assert "left" not in study._summary()
    clock[0] += 60
    for pack in packs:
        study.pack_reported(pack.pack_id, share_before + 0.1, {})
    assert study._summary().endswith(left)
    for pack in packs:
        study.pack_ended(pack.pack_id, {pack.trials[0].trial_id: "ok"})
    assert "left" not in study._summary()
