"""What a running study tells where there is no terminal."""

import io

from rich.console import Console

from study.packing import Pack
from study.progress import StudyProgress


def lines_of(packs, order):
    console = Console(file=io.StringIO(), width=80)
    with StudyProgress(packs, console, notice=lambda: None) as progress:
        for pack in order:
            progress.pack_reported(pack.pack_id, 0.0, {})
            progress.pack_ended(pack.pack_id, {trial.trial_id: "ok" for trial in pack.trials})
    return console.file.getvalue().splitlines()


def test_a_small_study_tells_every_pack(make_trial):
    packs = [Pack((make_trial(seed=seed),)) for seed in range(5)]
    lines = lines_of(packs, packs)
    assert [line.split(" · ")[0] for line in lines] == [f"packs {done}/5 done" for done in range(1, 6)]


def test_a_large_study_tells_its_progress_in_some_hundred_lines_and_its_end(make_trial):
    packs = [Pack((make_trial(seed=seed),)) for seed in range(1_000)]
    lines = lines_of(packs, packs)
    assert 150 <= len(lines) <= 201
    assert lines[-1].startswith("packs 1000/1000 done · trials 1000/1000 done")
