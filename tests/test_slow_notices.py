"""What users are told where no compiler makes the kernels: once, and where it matters alone."""

import io
import warnings

import pytest
from rich.console import Console

from study import native_library, pack_training, processor, sweep
from study.packing import Pack
from study.training_session import _Observer

REASON = "kernels are not compiled (no compiler)"


def load_without_compiler():
    warnings.warn(REASON, stacklevel=2)


@pytest.mark.parametrize(("device", "expected"), [("cpu", [f"Slow: {REASON}"]), ("cuda", [])])
def test_a_worker_gives_notice_where_the_processor_trains(monkeypatch, make_trial, folder, device, expected):
    reported, noticed = [], []
    monkeypatch.setattr(sweep.tune, "report", reported.append)
    monkeypatch.setattr(processor, "prepare_processor", lambda: None)  # it would change this process
    monkeypatch.setattr(native_library, "load_library", load_without_compiler)
    monkeypatch.setattr(pack_training.PackTraining, "run", lambda self, notices: noticed.extend(notices))
    pack = Pack((make_trial(),))
    sweep.train_on_worker({"pack_id": "p"}, {"p": pack}, None, folder, folder.make_key(), device, "s", "default", 60.0)
    assert noticed == expected
    assert reported[-1]["done"]


def test_many_workers_give_it_and_it_is_told_once():
    console = Console(file=io.StringIO(), width=200)
    observer = _Observer([], None, None, console)
    for notice in (f"{sweep.SLOW} a", f"{sweep.SLOW} a", f"{sweep.SLOW} b", "d3 begins again", "d3 begins again"):
        observer.noticed(notice)
    told = console.file.getvalue().splitlines()
    assert told == ["Slow: a", "Slow: b", "d3 begins again", "d3 begins again"]
