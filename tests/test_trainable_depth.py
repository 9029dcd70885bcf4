"""D50 of simulated outcomes: exact without noise, intervals that cover, and a sentence where there is none."""

import dataclasses

import numpy as np
import pytest
from scipy import special

from analysis.depth_section import make_depth_section
from analysis.estimates import Estimate
from analysis.failure_curve import fit_curve
from analysis.findings import Findings
from analysis.trainable_depth import (
    estimate_trainable_depths,
    fit_counts,
    fit_trainable_depth,
    predict_by_rule,
    resample_failures,
)
from tests.simulated_studies import Truth, make_empty, simulate_study

DEPTHS = np.array([4, 6, 10, 16, 25, 40, 63, 100.0])
REALISTIC = Truth(spread=0.3, lapse=0.02, trainable_depth=30.0)
THREE_RATES = {"learning_rates": (1e-3, 2e-3, 3e-3), "error_noise": 0.02}
DESIGNS = {
    "2 seeds": dataclasses.replace(REALISTIC, seeds=2),
    "4 seeds": REALISTIC,
    "4 seeds, a wide transition": dataclasses.replace(REALISTIC, spread=0.5),
    "2 seeds, three rates that differ": dataclasses.replace(
        REALISTIC, seeds=2, rate_penalty=0.03, rate_depth_factor=0.7, **THREE_RATES
    ),
    "4 seeds, three rates that differ": dataclasses.replace(
        REALISTIC, rate_penalty=0.03, rate_depth_factor=0.7, **THREE_RATES
    ),
    "4 seeds, three rates alike": dataclasses.replace(REALISTIC, rate_penalty=0.0, **THREE_RATES),
}


def cover(truth: Truth, repetitions: int, replicates: int = 200) -> float:
    """Share of repetitions (each a width of its own) whose interval holds D50 = 30."""
    study = simulate_study(dataclasses.replace(truth, widths=tuple(range(2, 2 + repetitions))), seed=1)
    table = estimate_trainable_depths(study, replicates=replicates).table
    assert len(table) == repetitions
    unbounded = table["d50_low"].isna() & table["d50_high"].isna()
    return float((~unbounded & ~(table["d50_low"] > 30) & ~(table["d50_high"] < 30)).mean())


@pytest.mark.parametrize("lapse", [0.0, 0.05])
def test_the_curve_is_recovered_from_expected_counts(lapse):
    probability = lapse + (1 - 2 * lapse) * special.ndtr(np.log(DEPTHS / 27.3) / 0.35)
    fit = fit_counts(DEPTHS, np.full(8, 1e6), 1e6 * probability[None])
    assert fit.d50.value == pytest.approx(27.3, rel=1e-5)
    assert (fit.spread, fit.lapse) == pytest.approx((0.35, lapse), abs=1e-4)


def test_a_clean_step_is_found_between_its_depths():
    fit = fit_trainable_depth(np.repeat(DEPTHS, 4), np.repeat(DEPTHS > 30, 4))
    assert 25 < fit.d50.value < 40
    assert fit.d50.low < 25 < 40 < fit.d50.high


def test_the_interval_holds_what_each_choice_of_the_learning_rate_allows():
    trials = np.full(8, 4.0)
    early, late = (4.0 * (depth < DEPTHS) for depth in (12, 50))
    first, second = (fit_counts(DEPTHS, trials, counts[None]).d50 for counts in (early, late))
    assert first.high < second.low
    both = fit_counts(DEPTHS, trials, np.stack([early, late])).d50
    assert (both.low, both.high) == pytest.approx((first.low, second.high), rel=0.1)
    late_is_rare = fit_counts(DEPTHS, trials, np.stack([*[early] * 99, late])).d50
    assert late_is_rare.high < second.low


def test_intervals_cover():
    assert 0.92 <= cover(DESIGNS["4 seeds"], 150) <= 0.98


@pytest.mark.slow
@pytest.mark.timeout(1200)  # minutes on one busy core
@pytest.mark.parametrize("design", DESIGNS)
def test_intervals_cover_in_three_hundred_repetitions(design):
    share = cover(DESIGNS[design], 300)
    print(f"D50, {design}: {share:.1%} of 300")
    assert 0.92 <= share <= 0.98


@pytest.mark.parametrize(
    ("failures", "written", "note"),
    [
        ([0] * 8, "≥ ", "0 of 16 trainings failed up to depth 100"),
        ([2] * 8, "≤ ", "16 of 16 trainings failed from depth 4 on"),
        ([0] * 7 + [1], "≥ ", "the estimate is deeper than the depths tried"),
        ([2, 2, 2, 1, 0, 0, 0, 0], "7 of 16", "not the more the deeper"),
    ],
)
def test_open_bounds(failures, written, note):
    bound = fit_counts(DEPTHS, np.full(8, 2.0), np.array([failures], dtype=float)).d50
    assert bound.value is None
    assert bound.write().startswith(written)
    assert note in bound.note
    assert (bound.low or 4) <= 100
    assert (bound.high or 100) >= 4


@pytest.mark.parametrize(
    ("depths", "failed", "note"),
    [
        ([], [], "no training ended"),
        ([np.nan, 4], [1, np.nan], "no training ended"),
        ([50], [1], "too few to bound"),
        ([50] * 4, [1, 0, 1, 0], "takes a second depth"),
    ],
)
def test_too_little_is_said(depths, failed, note):
    fit = fit_trainable_depth(np.array(depths), np.array(failed))
    assert fit.d50.write() == fit.d50.note
    assert note in fit.d50.note


def test_learning_rates_are_chosen_by_the_other_seeds():
    # Seed 0 was lucky at the second rate; seeds 1 and 2 found the first one better.
    errors = np.array([[0.9, 0.3, 0.3], [0.2, 0.5, 0.5]])
    failed = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]])
    failures = resample_failures(errors, failed, np.array([1.0, 1.0, 1.0]), 1000, np.random.default_rng(0))
    # Seed 0 is always judged at the first rate (1 failure). Seed 1 is at the first when both draws of (0, 2) are 2,
    # and at the second rate otherwise (3 of 4: the mean of 0.9 and 0.3 is above that of 0.2 and 0.5); so is seed 2.
    assert failures.mean() == pytest.approx(1 + 2 * 0.75, abs=0.06)
    assert set(failures) == {1.0, 2.0, 3.0}


def test_seeds_that_are_left_out_are_not_resampled():
    # Seed 0 lacks the rate that the others find best; they themselves are compared on each other.
    errors, failed = np.array([[np.nan, 0.1, 0.1], [0.5, 0.5, 0.5]]), np.array([[np.nan, 0, 0], [1.0, 1, 1]])
    failures = resample_failures(errors, failed, np.array([np.nan, 0.0, 0.0]), 50, np.random.default_rng(0))
    assert set(failures) == {0.0}


def test_a_seed_without_the_rate_of_a_sample_keeps_its_own():
    # Samples of seed 1 alone prefer the first rate, which seed 0 lacks.
    errors = np.array([[np.nan, 0.1, 0.5], [0.3, 0.4, 0.1]])
    failed = np.array([[np.nan, 1.0, 1.0], [0.0, 0.0, 0.0]])
    failures = resample_failures(errors, failed, np.array([0.0, np.nan, np.nan]), 50, np.random.default_rng(0))
    assert set(failures) == {0.0}


def test_rates_that_no_other_seed_has_are_chosen_by_the_seed_itself():
    # As in sampled spaces: of two rates each the second trains, and nobody else knows it.
    errors = np.array([[0.9, np.nan], [0.2, np.nan], [np.nan, 0.9], [np.nan, 0.2]])
    failed = (errors > 0.5).astype(float)
    failures = resample_failures(errors, failed, np.zeros(2), 20, np.random.default_rng(0))
    assert set(failures) == {0.0}


def test_a_missing_trial_does_not_move_the_depth():
    truth = Truth(learning_rates=(1e-3, 1e-2), depths=(4, 10, 25, 63), seeds=4, rate_depth_factor=0.15)
    study = simulate_study(truth)
    whole = estimate_trainable_depths(study).table.iloc[0]
    lost = (study.trials["seed"] == 3) & (study.trials["learning_rate"] == 1e-3) & (study.trials["depth"] < 63)
    less = dataclasses.replace(study, trials=study.trials[~lost])
    row = estimate_trainable_depths(less).table.iloc[0]
    assert (whole["trials"], whole["failed"]) == (16, 4)
    assert (row["trials"], row["failed"]) == (13, 4)
    assert row["d50"] == pytest.approx(whole["d50"], rel=0.05)


def test_depths_beside_the_rule_and_the_critical_gsc():
    truth = Truth(rates={("batch", "relu"): 1.2, ("layer", "tanh"): 1.08}, trainable_depth=None)
    table = estimate_trainable_depths(simulate_study(truth)).table.set_index("network")
    assert table.loc["batch-relu", "rule_depth"] == pytest.approx(16 / np.log(1.44))
    for _, row in table.iterrows():
        assert row["critical_log10_gsc_low"] < 3.0 < row["critical_log10_gsc_high"]


def test_the_rule_sets_no_limit_where_nothing_explodes():
    assert np.isnan(list(predict_by_rule(None).values())).all()
    assert predict_by_rule(Estimate(1.1))["rule_depth"] == pytest.approx(83.94, abs=0.01)
    assert np.isnan(predict_by_rule(Estimate(1.1))["rule_depth_high"])
    assert list(predict_by_rule(Estimate(1.1, 0.9, 1.2)).values()) == pytest.approx([83.94, 43.88, np.inf], abs=0.01)
    assert list(predict_by_rule(Estimate(0.9, 0.8, 0.95)).values()) == [np.inf] * 3
    table = estimate_trainable_depths(simulate_study(Truth(rates={("layer", "relu"): 0.99}, spread=0.3))).table
    assert table["rule_depth"].tolist() == [np.inf]
    assert "sets no limit" in table["note"].iloc[0]


@pytest.mark.parametrize(
    ("trials", "failures", "d50", "spread"),
    [([3, 5, 4, 2, 3, 4, 5, 3], [0, 0, 0, 2, 2, 4, 4, 3], 20.0, 0.64), ([1] * 8, [0, 0, 1, 1, 1, 0, 1, 1], 13.4, 0.87)],
)
def test_of_several_maxima_the_highest_is_found(trials, failures, d50, spread):
    # By many starts at random: the other maximum of the first is at 16.5, of the second at 7.8.
    depths = np.array([4.0, 6, 10, 16, 25, 40, 63, 100])
    curve = fit_curve(depths, np.array(trials, float), np.array(failures, float))
    assert np.exp(curve.ln_d50) == pytest.approx(d50, rel=0.01)
    assert curve.spread == pytest.approx(spread, abs=0.01)
    assert curve.lapse == pytest.approx(0.0, abs=1e-6)


def test_odd_studies_have_no_number_without_a_reason():
    base = Truth(spread=0.3, **THREE_RATES)
    odd = [
        dataclasses.replace(base, seeds=1),
        dataclasses.replace(base, depths=(10,)),
        dataclasses.replace(base, trainable_depth=1.0, spread=0.01),
        dataclasses.replace(base, trainable_depth=1e6),
        dataclasses.replace(base, seeds=1, depths=(10,), learning_rates=(1e-3,)),
        dataclasses.replace(base, depths=(2, 2000), rates={("none", "relu"): 1.0}),
    ]
    for truth in odd:
        (row,) = estimate_trainable_depths(simulate_study(truth)).table.itertuples()
        assert "nan" not in row.written
        assert row.written
        assert row.d50 == row.d50 or row.note
    result = estimate_trainable_depths(make_empty(simulate_study(base)))
    assert result.table.empty
    assert "none of 0 trials" in result.note


def test_a_cell_without_a_bound_holds_no_sentence():
    study = simulate_study(Truth(seeds=1, depths=(4, 10), learning_rates=(1e-3, 1e-2)))
    (table,) = [table for table in make_depth_section(Findings(study)).tables if table.name == "trainable_depth"]
    assert "D50" not in table.headings
    (note,) = (row[table.headings.index("note")] for row in table.rows)
    assert "too few to bound D50" in note
    assert note.endswith("; one seed: its learning rates are chosen on the runs that are judged, which flatters them")


def test_all_diverged():
    study = simulate_study(Truth())
    study.trials[["status", "final_train_error"]] = ["diverged", 0.9]
    result = estimate_trainable_depths(study)
    assert "No training that is judged is better than chance" in result.note
    assert result.table["written"].item().startswith("≤")
