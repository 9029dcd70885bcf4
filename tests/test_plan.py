"""What a plan shows of its trials: everything that varies, and in 80 columns what the project's spaces ask for."""

import io

import pytest
from rich.console import Console

from search_spaces import SPACES
from search_spaces.axes import grid
from study.packing import make_packs
from study.plan import print_plan


def plan(trials):
    """Lines of the plan of some trials in a terminal of 80 columns."""
    console = Console(file=io.StringIO(), width=80)
    print_plan("some", trials, make_packs(trials, 4), console)
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize("space", SPACES)
def test_plans_fit_into_80_columns(space):
    assert max(map(len, plan(SPACES[space]()))) <= 80


def test_what_varies_has_a_column_and_what_does_not_a_line():
    _, headings, _, relu, tanh, alike, *_ = plan(
        grid(depth=[4, 9], activation=["relu", "tanh"], dilution=[0, 0.5, 1, 16], optimizer="sgd", precision="bf16")
    )
    assert headings.split() == ["network", "depth", "dilution", "trials", "packs", "TFLOP"]
    assert relu.split()[:-1] == ["none-relu", "4,", "9", "0", "…", "16", "8", "2"]
    assert tanh.split()[0] == "none-tanh"
    assert alike == "All with width 100; optimizer sgd; epochs 10; precision bf16."


def test_precisions_have_rows_of_their_own():
    lines = plan(grid(depth=5, precision=["fp32", "bf16"], epochs=[1, 12], seed=[0, 1, 2]))
    rows = [line.split()[:-1] for line in lines if line.startswith("none-relu")]
    assert rows == [
        ["none-relu", "5", epochs, precision, "3", "1"] for epochs in ("1", "12") for precision in ("bf16", "fp32")
    ]
    assert "All with dilution 0; width 100; optimizer adam." in lines
    assert "Within rows vary seed 0, 1, 2." in lines


def test_what_belongs_to_the_optimizer_does_not_vary_within_rows():
    adam = grid(depth=5, learning_rate=[1e-4, 1e-3])
    sgd = grid(depth=5, learning_rate=[1e-2, 1e-1], optimizer="sgd", momentum=0.9)
    assert "Within rows vary learning_rate 1e-4 … 0.1." in plan(adam + sgd)
    mixed = sgd + grid(depth=5, learning_rate=[1e-2, 1e-1], optimizer="sgd")
    assert "Within rows vary learning_rate 0.01, 0.1; momentum 0, 0.9." in plan(mixed)


def test_names_beside_numbers_are_all_written():
    lines = plan(grid(depth=5, gain=[2, "he", 1.5, "critical"], layerwise_step_sizes=[False, True], optimizer="sgd"))
    assert "Within rows vary gain 1.5, 2, critical, he; layerwise_step_sizes False, True." in lines


def test_a_plan_without_trials_has_no_table():
    assert plan([]) == [
        "Study some: 0 trials in 0 packs.",
        "Work to come: 0.0 MFLOP of training and evaluation, measurements left out.",
    ]
