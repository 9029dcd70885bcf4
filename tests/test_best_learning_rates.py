"""Choices of learning rates, and what is done where there is none."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from analysis.best_learning_rates import best_learning_rates, choose_outcomes
from analysis.tradeoff import fit_tradeoff
from study.rate_choice import rank_rates
from tests.simulated_studies import Truth, make_empty, simulate_study

TRUTH = Truth(learning_rates=(1e-3, 1e-2), depths=(4, 100), trainable_depth=30.0)


def test_the_best_rate_and_the_threshold():
    study = simulate_study(TRUTH)
    assert best_learning_rates(study.trials)["learning_rate"].tolist() == [1e-3, 1e-3]
    outcomes = choose_outcomes(study)
    assert outcomes.failure_error == pytest.approx((0.9 + 0.3) / 2)
    assert outcomes.table.groupby("depth")["failed"].agg(["sum", "size"]).to_numpy().tolist() == [[0, 4], [4, 4]]


def test_a_seed_does_not_choose_for_itself():
    study = simulate_study(TRUTH)
    lucky = (study.trials["seed"] == 0) & (study.trials["learning_rate"] == 1e-2) & (study.trials["depth"] == 4)
    study.trials.loc[lucky, "final_train_error"] = 0.0
    table = choose_outcomes(study).table
    chosen = table[table["depth"] == 4].set_index("seed")["learning_rate"]
    # For the others the lucky run makes the second rate the better one: (0 + 0.4 + 0.4)/3 against 0.3.
    assert chosen.to_dict() == {0: 1e-3, 1: 1e-2, 2: 1e-2, 3: 1e-2}


def test_unfinished_trials_are_counted_and_diverged_ones_fail():
    study = simulate_study(TRUTH)
    study.trials.loc[study.trials["seed"] == 3, ["status", "final_train_error"]] = ["failed", float("nan")]
    study.trials.loc[(study.trials["seed"] == 2) & (study.trials["depth"] == 4), "status"] = "diverged"
    outcomes = choose_outcomes(study)
    assert (outcomes.excluded, len(outcomes.table)) == (4, 6)
    assert outcomes.table.query("seed == 2")["failed"].all()


def test_a_threshold_may_be_given():
    outcomes = choose_outcomes(simulate_study(TRUTH), failure_error=0.25)
    assert (outcomes.failure_error, outcomes.table["failed"].all()) == (0.25, True)


def test_pseudo_linearity_knows_the_skip_path():
    table = choose_outcomes(simulate_study(Truth(dilutions=(0.0, 2.0), linear_fit_error=0.2))).table
    assert table.groupby("dilution")["pseudo_linearity"].first().tolist() == pytest.approx([0.8, 0.96])


def test_learning_rates_that_seeds_have_for_themselves_are_told():
    study = simulate_study(Truth(depths=(4,), seeds=2, learning_rates=(1e-3, 2e-3, 3e-3, 4e-3)))
    own = study.trials["learning_rate"].isin([1e-3, 2e-3]) == (study.trials["seed"] == 0)
    outcomes = choose_outcomes(dataclasses.replace(study, trials=study.trials[own]))
    assert outcomes.note.startswith("2 of 2 learning rates are chosen on the runs that are judged")
    assert choose_outcomes(study).note == ""


def test_one_seed_and_none():
    outcomes = choose_outcomes(simulate_study(Truth(seeds=1, learning_rates=(1e-3, 1e-2))))
    assert "flatters" in outcomes.note
    empty = choose_outcomes(make_empty(simulate_study(TRUTH)))
    assert empty.table.empty
    assert "none of 0 trials" in empty.note


def test_where_nothing_learns_everything_fails():
    """Half-way between chance and the luckiest of them would call some of them trained."""
    study = simulate_study(Truth(trainable_depth=1.0))
    study.trials["final_train_error"] -= 0.01 * study.trials["seed"] + 0.02
    outcomes = choose_outcomes(study)
    assert outcomes.failure_error == pytest.approx(0.81)
    assert outcomes.table["failed"].all()
    assert outcomes.note.startswith("No training that is judged is better than chance by a tenth of it")
    study.trials.loc[study.trials["depth"] == 4, "final_train_error"] = 0.75
    outcomes = choose_outcomes(study)
    assert (outcomes.failure_error, outcomes.note) == (pytest.approx(0.81), "")
    assert not outcomes.table.loc[outcomes.table["depth"] == 4, "failed"].any()


def lose(study, **fields):
    """Return a study without the trials of these fields."""
    lost = (study.trials[list(fields)] == pd.Series(fields)).all(axis=1)
    assert lost.any()
    return dataclasses.replace(study, trials=study.trials[~lost])


def test_a_missing_trial_does_not_move_the_others():
    study = lose(simulate_study(TRUTH), seed=3, learning_rate=1e-3, depth=4)
    assert best_learning_rates(study.trials)["learning_rate"].tolist() == [1e-3, 1e-3]
    outcomes = choose_outcomes(study)
    assert set(outcomes.table["learning_rate"]) == {1e-3}
    # Seed 3 has no run at the rate that the others found best: it is no failed training.
    assert outcomes.table.groupby("depth")["seed"].agg(list).tolist() == [[0, 1, 2], [0, 1, 2, 3]]
    assert "In 1 of 2 cells" in outcomes.left_out
    assert outcomes.left_out.endswith("the best dilution: 1 of 8.")
    assert choose_outcomes(simulate_study(TRUTH)).left_out == ""


def test_a_seed_at_a_worse_rate_alone_is_left_out():
    study = simulate_study(TRUTH)
    added = lose(study, seed=3, learning_rate=1e-3)
    without = lose(study, seed=3)
    pd.testing.assert_frame_equal(choose_outcomes(added).table, choose_outcomes(without).table)


def test_with_two_seeds_nobody_is_judged_at_a_rate_for_want_of_another():
    study = lose(simulate_study(dataclasses.replace(TRUTH, seeds=2)), seed=1, learning_rate=1e-3, depth=4)
    assert choose_outcomes(study).table["depth"].tolist() == [100, 100]


def test_where_every_seed_is_left_out_the_reason_is_given():
    study = simulate_study(dataclasses.replace(TRUTH, depths=(4,), seeds=2))
    study = lose(study, seed=1, learning_rate=1e-3)
    outcomes = choose_outcomes(study)
    assert outcomes.table.empty
    assert "every seed lacks a run" in outcomes.note
    assert outcomes.note in fit_tradeoff(study).note


def test_rates_are_compared_on_the_seeds_that_they_share():
    study = simulate_study(dataclasses.replace(TRUTH, depths=(4,)))
    trials = study.trials
    # Seed 3 is the hardest; the better rate has it, the other lacks it.
    trials.loc[(trials["seed"] == 3), "final_train_error"] = 0.85
    study = lose(study, seed=3, learning_rate=1e-2)
    assert best_learning_rates(study.trials)["learning_rate"].tolist() == [1e-3]
    assert choose_outcomes(study).table["learning_rate"].tolist() == [1e-3] * 4


def test_a_rate_of_few_seeds_does_not_win_by_luck():
    study = simulate_study(dataclasses.replace(TRUTH, depths=(4,)))
    trials = study.trials
    trials.loc[(trials["seed"] == 0) & (trials["learning_rate"] == 1e-2), "final_train_error"] = 0.0
    for seed in (1, 2, 3):
        study = lose(study, seed=seed, learning_rate=1e-2)
    assert best_learning_rates(study.trials)["learning_rate"].tolist() == [1e-3]
    assert choose_outcomes(study).table["learning_rate"].tolist() == [1e-3] * 4


def test_of_equally_good_rates_the_smallest_is_taken():
    study = simulate_study(dataclasses.replace(TRUTH, depths=(4,), seeds=3))
    first = study.trials["learning_rate"] == 1e-3
    # Their sums in floating point differ.
    study.trials.loc[first, "final_train_error"] = [0.1, 0.2, 0.3]
    study.trials.loc[~first, "final_train_error"] = [0.3, 0.2, 0.1]
    assert best_learning_rates(study.trials)["learning_rate"].tolist() == [1e-3]


def test_tables_and_matrices_are_ranked_alike():
    """The same rule is written for frames here and for matrices in `study.rate_choice`."""
    study = simulate_study(Truth(depths=(4,), seeds=5, learning_rates=(1e-3, 1e-2, 1e-1), error_noise=0.1))
    generator = np.random.default_rng(0)
    for _ in range(20):
        trials = study.trials[generator.random(len(study.trials)) < 0.6]
        errors = trials.pivot_table(index="learning_rate", columns="seed", values="final_train_error")
        best = errors.index[rank_rates(errors.to_numpy()).argmin()]
        assert best_learning_rates(trials)["learning_rate"].tolist() == [best]
