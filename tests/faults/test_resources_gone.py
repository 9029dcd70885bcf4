"""A disk that is full, memory that is too small, a pack-mate that raises: one line says so, and the rest is whole."""

import os
import subprocess
import sys

import pytest

from study import run_log_schema as schema
from tests.faults import studies

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(900)]


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 24 MB in memory."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(place)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("mounting a small file system needs root")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(place):
    """Take all the room that is left."""
    with (place / "filler").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return


def test_a_full_disk(small_disk, tmp_path):
    folder = studies.make_folder(tmp_path / "user")
    (folder / "studies").symlink_to(small_disk)
    place = studies.study_folder(folder, "study")
    driver = studies.start(folder, "study", "--max-pack", "3")
    studies.wait_for(lambda: studies.epochs_recorded(place) > 40)
    before = studies.records(place)
    fill(small_disk)
    output = studies.finish(driver, status=1)
    (line,) = [line for line in output.splitlines() if line.startswith("Stopped: ")]
    assert "No space left on device" in line
    assert "The same command goes on where this one stopped." in line
    after = studies.records(place)
    for trial_id, lines in before.items():
        assert after[trial_id][: len(lines)] == lines
    refused = studies.finish(studies.start(folder, "study", "--max-pack", "3"), status=2)
    assert refused.count("\n") == 1, refused
    assert "No space left on device" in refused
    (small_disk / "filler").unlink()
    studies.finish(studies.start(folder, "study", "--max-pack", "3"))
    studies.expect_whole(place, studies.store(folder), trials=8)
    studies.finish(studies.start(folder, "study", "--name", "undisturbed", "--storage", str(tmp_path / "other")))
    assert studies.numbers(place) == studies.numbers(studies.StudyFolder(tmp_path / "other", "undisturbed"))
    print(f"\nfull disk after {sum(map(len, before.values()))} lines: {line}")


MEMORY = """
import resource, sys
from pathlib import Path
import torch
from study import run_log_schema as schema
from study.datasets import load_dataset
from study.pack_training import PackTraining
from study.packing import Pack
from study.study_folder import StudyFolder
from study.trial_config import TrialConfig
from study.trial_record import read_start, read_status

torch.set_num_threads(1)
folder = StudyFolder(Path(sys.argv[1]), "memory")
folder.create()
dataset = load_dataset("synthetic:100", folder.storage)
trials = [TrialConfig(depth=3, width=1500, epochs=1, batch_size=50, probe_size=16, probe_vectors=2, seed=seed)
          for seed in range(8)]
in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (in_use + 900 * 2**20,) * 2)
PackTraining(Pack(tuple(trials)), dataset, folder, "cpu", lambda news: None, "sweep", 0.0).run()
for trial in trials:
    path = folder.record_path(trial.trial_id)
    print(read_status(path), read_start(path)["attempts"])
"""


def test_a_pack_that_does_not_fit_into_memory_is_halved_until_it_does(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(tmp_path)], env={**os.environ, "PYTHONPATH": str(studies.ROOT)},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    endings = [line.split() for line in done.stdout.splitlines()]
    assert [status for status, _ in endings] == [schema.STATUS_OK] * 8, done.stdout
    assert all(int(attempts) > 1 for _, attempts in endings), "the pack fitted: the limit was too high"
    print(f"\n8 members, memory for fewer: attempts {[int(attempts) for _, attempts in endings]}, all ok")
