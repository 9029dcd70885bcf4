"""Hundreds of commands that are wrong: one line each, status 2, no Ray, nothing lost; see `docs/bad_inputs.md`."""

import sys

import pytest
from filelock import FileLock

import analysis.__main__
import study.__main__
from tests import bad_inputs

pytestmark = pytest.mark.filterwarnings("ignore")  # mlflow's, ray's and pillow's own

INPUTS = bad_inputs.all_bad_inputs()
KINDS = sorted({bad.kind for bad in INPUTS})


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    bad_inputs.make_world(folder)
    return folder


def files_below(folder):
    """Return size and time of every file; of SQLite's, whose times mean nothing, and locks, only that they exist."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_file():
            changes = path.name.startswith("mlflow.db") or path.suffix == ".lock" or "__pycache__" in path.parts
            status = path.stat()
            found[path] = None if changes else (status.st_size, status.st_mtime_ns)
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_bad_inputs(kind, world, monkeypatch, capfd):
    import ray

    monkeypatch.chdir(world)
    monkeypatch.syspath_prepend(world)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    started = []  # an exception would end the thread alone that starts Ray
    monkeypatch.setattr(ray, "init", lambda **_: started.append(True))
    mains = {bad_inputs.STUDY: study.__main__.main, bad_inputs.ANALYSIS: analysis.__main__.main}
    files, runs = files_below(world), bad_inputs.read_runs(world / "studies")
    problems = []
    with FileLock(world / "studies" / "locked" / ".driver.lock"):
        for bad in (bad for bad in INPUTS if bad.kind == kind):
            try:
                status = mains[bad.program](list(bad.arguments))
            except SystemExit as end:
                status = end.code
            except Exception as error:
                status = f"{type(error).__name__}: {error}"
            printed = capfd.readouterr().err
            sys.modules.pop("models", None)
            if status != 2 or not printed.startswith("error: ") or printed.count("\n") != 1:
                problems.append(f"{bad.program} {bad.arguments}: {status}\n{printed[-2000:]}")
    assert not problems, f"{len(problems)} problems\n" + "\n".join(problems)
    assert not started
    left = files_below(world)
    assert {path: left.get(path, "gone") for path in files} == files
    assert bad_inputs.read_runs(world / "studies") == runs


def test_there_are_enough_and_the_page_lists_them():
    assert len(INPUTS) >= 300
    assert len({(bad.program, bad.arguments) for bad in INPUTS}) == len(INPUTS)
    assert bad_inputs.PAGE.read_text(encoding="utf-8") == bad_inputs.write_page(INPUTS), (
        "run python -m tests.bad_inputs"
    )
