"""That contenders of the benchmark train the network that we train, and that its page holds what was measured."""

import json
import os
import signal
import subprocess
import sys
import threading

import psutil
import pytest
import torch

from benchmarks import __main__, agreement
from benchmarks.__main__ import RESULTS
from benchmarks.contenders import standardise, train_in_memory
from benchmarks.markdown import write_page
from benchmarks.plain_network import PlainNetwork
from benchmarks.probe_cost import measure_probes
from benchmarks.processes import run_together
from benchmarks.study_overhead import compare_in_turn
from benchmarks.throughput import list_contenders
from study.network import PackedNetwork
from study.trial_config import PRECISIONS


@pytest.mark.parametrize("normalization", ["none", "batch", "layer"])
@pytest.mark.parametrize("dilution", [0, 2])
def test_the_plain_network_is_ours(make_trial, normalization, dilution):
    trial = make_trial(normalization=normalization, dilution=dilution, activation="tanh")
    ours = PackedNetwork([trial], 3072, 10)
    plain = PlainNetwork(trial)
    first, _, hidden, _, last, _ = (parameter[0] for parameter in ours.parameters)
    with torch.no_grad():
        for layer, weight in zip(plain.layers, [first, *hidden, last], strict=True):
            layer.weight.copy_(weight.T)
    x = torch.randn(16, 3072)
    torch.testing.assert_close(plain(x), ours.forward(x, ours.normalize_by_batch)[0], rtol=1e-4, atol=1e-5)


def test_plain_training_learns(make_trial, small_dataset):
    trial = make_trial(normalization="batch", epochs=15, width=40, learning_rate=3e-3)
    torch.manual_seed(0)
    train_error, _ = train_in_memory(trial, standardise(small_dataset, "cpu"), "cpu")
    assert train_error < 0.3


CONTENDERS = {
    "(a) tutorial loop, fp32": 10,
    "(b) in memory, fp32": 20,
    "(c) ours, E = 4, fp32": 50,
    "(a) tutorial loop, bf16": 16,
    "(b) in memory, bf16": 25,
    "(c) ours, E = 4, bf16": 80,
}


def test_every_precision_has_its_own_rivals():
    labels = [contender.label for contender in list_contenders("cpu", (4,), PRECISIONS)]
    assert labels == [
        f"{name}, {precision}"
        for precision in ("fp32", "bf16")
        for name in ("(a) tutorial loop", "(b) in memory", "(c) ours, E = 4")
    ]


def test_the_page_sets_contenders_side_by_side(tmp_path):
    rows = [
        {
            "label": label,
            "trials": 2,
            "epochs": 1,
            "seconds": 3600 / rate,
            "start_up_seconds": 1,
            "trials_per_hour": rate,
        }
        for label, rate in CONTENDERS.items()
    ]
    overhead = {
        "trials": 300,
        "pack": 4,
        "study_seconds": 165.0,
        "study_seconds_without_mlflow": 160.5,
        "bare_seconds": 150.0,
        "bare_seconds_in_turn": [149.0, 151.0, 150.0],
        "bare_seconds_per_trial": 1.0,
        "overhead": 0.1,
        "overhead_without_mlflow": 0.066,
    }
    results = {"machine": {"date": "2000-01-01"}, "data": "some", "throughput": rows, "overhead": [overhead]}
    write_page(results, tmp_path / "page.md")
    page = (tmp_path / "page.md").read_text()
    assert "| (c) ours, E = 4, fp32 | 2 | 1 | 72.0 | 1.0 | 50 | 5.00 | 5.00 | 2.50 |" in page
    assert "| (c) ours, E = 4, bf16 | 2 | 1 | 45.0 | 1.0 | 80 | 8.00 | 5.00 | 3.20 |" in page
    assert "| 300 | 4 | 1.00 | 149.0 and 151.0 and 150.0 | 165.0 | +10.0% | 160.5 | +6.6% |" in page


def test_a_part_that_was_measured_before_says_with_what(tmp_path):
    probes = [{"network": "a", "depth": 50, "epochs": 1, "pack": 4, "probes": 2, "milliseconds_per_probe": 50.0}]
    probes[0] |= {"probe_seconds": 0.1, "training_seconds": 1.0, "ratio": 0.1}
    now, before = {"date": "2000-01-01", "code_revision": "b"}, {"date": "2000-01-01", "code_revision": "a"}
    results = {"machine": now, "data": "some", "probes": probes, "machines": {"probes": before}}
    write_page(results, tmp_path / "page.md")
    assert "Measured with code_revision a." in (tmp_path / "page.md").read_text()
    write_page(results | {"machines": {"probes": now}}, tmp_path / "page.md")
    assert "Measured with" not in (tmp_path / "page.md").read_text()


def test_a_study_is_set_against_what_was_bare_right_before_and_after_it():
    assert compare_in_turn([110, 330], bare=[90, 110, 490]) == pytest.approx([0.1, 0.1])


WITH_PAGES = sorted(path for path in RESULTS.glob("*[0-9].json") if path.with_suffix(".md").exists())


@pytest.mark.parametrize("results", WITH_PAGES, ids=lambda path: path.stem)
def test_pages_are_made_of_the_numbers_beside_them(results, tmp_path):
    write_page(json.loads(results.read_text()), tmp_path / "page.md")
    assert (tmp_path / "page.md").read_text() == results.with_suffix(".md").read_text()


def test_the_time_of_probes_is_parted_from_all_else(monkeypatch):
    monkeypatch.setattr("benchmarks.probe_cost.DEPTH", 2)
    monkeypatch.setattr("benchmarks.probe_cost.prepare_processor", lambda: None)
    rows = list(measure_probes("synthetic:256", "cpu", epochs=1, members=2))
    assert [row["network"] for row in rows] == ["relu-batch", "tanh-layer", "selu-none"]
    for row in rows:
        assert row["probes"] >= 2  # before training and after its epoch
        assert row["probe_seconds"] == pytest.approx(row["probes"] * row["milliseconds_per_probe"] / 1e3)
        assert row["ratio"] == pytest.approx(row["probe_seconds"] / row["training_seconds"])
        assert 0 < row["ratio"] < 100


def test_what_was_measured_is_kept_when_the_rest_is_given_up(tmp_path, monkeypatch):
    given_up = False

    def measure(depth, pack, precision, *_):
        if given_up and (precision, pack) == ("bf16", 16):
            raise KeyboardInterrupt
        names = ("milliseconds", "gflop_per_second", "peak_gflop_per_second", "first_step_seconds", "peak_gigabytes")
        return {"depth": depth, "pack": pack, "precision": precision, **dict.fromkeys(names, 1.0)}

    monkeypatch.setattr(__main__, "measure_apart", measure)
    monkeypatch.setattr(__main__, "RESULTS", tmp_path)
    monkeypatch.setattr(__main__, "DEPTHS", (50,))
    monkeypatch.setattr(sys, "argv", ["benchmark", "--data", "synthetic:100", "--parts", "steps", "--packs", "4,16"])
    __main__.main()
    (whole,) = tmp_path.glob("*.json")
    measured = whole.read_text()
    assert len(json.loads(measured)["steps"]) == 4
    monkeypatch.setattr(sys, "argv", ["benchmark", "--data", "synthetic:101", "--parts", "steps", "--packs", "4"])
    with monkeypatch.context() as patch:
        patch.setattr(__main__, "load_or_exit", lambda *_: pytest.fail("it was loaded before it was refused"))
        with pytest.raises(SystemExit, match="2"):  # other data takes nothing's place
            __main__.main()
    assert whole.read_text() == measured
    monkeypatch.setattr(sys, "argv", ["benchmark", "--data", "synthetic:100", "--parts", "steps", "--packs", "4,16"])
    given_up = True
    with pytest.raises(SystemExit, match="130"):
        __main__.main()
    assert whole.read_text() == measured
    file = whole.with_stem(f"{whole.stem}_unfinished")
    rows = json.loads(file.read_text())["steps"]
    assert [(row["precision"], row["pack"]) for row in rows] == [("fp32", 4), ("fp32", 16), ("bf16", 4)]
    assert file.with_suffix(".md").read_text().count("| fp32 | 50 |") == 2


SLEEPS = [sys.executable, "-c", "import time; time.sleep(60)"]


def test_processes_end_with_the_wait_for_them():
    assert run_together([["echo", "1"], ["echo", "2"]]) == ["1\n", "2\n"]
    with pytest.raises(subprocess.CalledProcessError):
        run_together([["true"], ["false"]])
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background it is ignored
    try:
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            run_together([SLEEPS, SLEEPS])
    finally:
        signal.signal(signal.SIGINT, before)
    assert [child.cmdline() for child in psutil.Process().children() if child.cmdline() == SLEEPS] == []


@pytest.mark.parametrize(
    ("program", "arguments", "message"),
    [
        (__main__, ("--data", "wrong"), "data: 'wrong' is unknown; choose cifar10"),
        (__main__, ("--data", "images:nowhere"), "data: folder nowhere does not exist"),
        (__main__, ("--parts", "steps,speed"), "argument --parts: 'speed' does not exist; choose from steps"),
        (__main__, ("--packs", "1,x"), "argument --packs: 'x' is out of range; give a whole number of at least 1"),
        (
            __main__,
            ("--precisions", "fp32,fp16"),
            "argument --precisions: 'fp32,fp16' does not exist; choose from fp32, bf16",
        ),
        (__main__, ("--epochs", "0"), "argument --epochs: '0' is out of range"),
        (__main__, ("--quik",), "unrecognized arguments: --quik; did you mean --quick?"),
        (agreement, ("--data", "wrong"), "data: 'wrong' is unknown"),
    ],
)
def test_what_is_wrong_with_a_benchmark_is_one_line_before_anything_is_measured(
    tmp_path, monkeypatch, capsys, program, arguments, message
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(__main__, "measure_apart", lambda *_: pytest.fail("something was measured"))
    monkeypatch.setattr(__main__, "RESULTS", tmp_path)  # where nothing was measured today, on other data
    monkeypatch.setattr(sys, "argv", ["benchmark", *arguments])
    with pytest.raises(SystemExit, match="2"):
        program.main()
    told = capsys.readouterr().err
    assert told.startswith(f"error: {message}")
    assert told.count("\n") == 1
