import pytest

from study.probe_schedule import is_early_step, layer_metric_epochs


@pytest.mark.parametrize(
    ("epochs", "drawn"),
    [(0, [0]), (1, [0, 1]), (5, [0, 1, 2, 3, 4, 5]), (7, list(range(8))), (100, [0, 14, 29, 43, 57, 71, 86, 100])],
)
def test_at_most_eight_epochs_are_drawn_by_layer(epochs, drawn):
    assert layer_metric_epochs(epochs) == drawn


def test_early_steps_leave_out_ends_of_epochs():
    assert [step for step in range(1, 40) if is_early_step(step, 100)] == [1, 3, 10]
    assert [step for step in range(1, 40) if is_early_step(step, 5)] == [1, 3]
    assert [step for step in range(1, 40) if is_early_step(step, 1)] == []
