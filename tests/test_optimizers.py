import pytest

from study.optimizers import schedule_factor


@pytest.mark.parametrize(
    ("schedule", "factors"),
    [
        ("constant", {0: 1, 0.5: 1, 0.99: 1}),
        ("cosine", {0: 1, 0.5: 0.5, 1: 0}),
        ("step", {0: 1, 0.49: 1, 0.5: 0.1, 0.74: 0.1, 0.75: 0.01, 0.99: 0.01}),
    ],
)
def test_schedules(schedule, factors):
    for progress, factor in factors.items():
        assert schedule_factor(schedule, progress) == pytest.approx(factor, abs=1e-12)
