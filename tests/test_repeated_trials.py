"""A study whose trials were all trained again under other conditions, with the same outcomes, is no surer than before.

What is repeated is of one network and begins with the same weights. Whatever counts networks or trials says the same.
"""

import dataclasses
import functools

import numpy as np
import pandas as pd
import pytest

from analysis.best_dilution import estimate_best_dilutions
from analysis.best_learning_rates import choose_outcomes
from analysis.depth_rules import compare_depth_rules
from analysis.dilution_law import check_dilution_law
from analysis.explosion_rates import estimate_explosion_rates
from analysis.failure_design import COVARIATES, DEPTH, GSC, add_covariates
from analysis.growth_forms import compare_growth_forms
from analysis.importance import SHARES, estimate_importance
from analysis.pareto import estimate_pareto_front
from analysis.tidy_frames import name_groups
from analysis.tradeoff import fit_tradeoff, tabulate_coefficients
from analysis.trainable_depth import estimate_trainable_depths
from analysis.what_stops import say_what_stops
from tests.simulated_studies import Truth, repeat_trials, simulate_study

TRUTH = Truth(
    rates={("batch", "relu"): 1.2, ("layer", "tanh"): 1.08, ("none", "relu"): 1.02, ("batch", "tanh"): 1.12},
    dilutions=(0.0, 1.0),
    optimizers=("adam", "sgd"),
    seeds=2,
    steepness=2.0,
    layer_noise=0.05,
    critical_log10_gsc=2.0,
    best_dilution=1.0,
    error_noise=0.02,
)
ONCE = simulate_study(TRUTH, seed=2)
REPEATED = {
    "precision": repeat_trials(ONCE, precision="bf16"),
    "epochs": repeat_trials(ONCE, epochs=5),
    "precision and epochs": repeat_trials(repeat_trials(ONCE, precision="bf16"), epochs=5),
    "training images": repeat_trials(ONCE, train_size=1000),
}
repeated = pytest.mark.parametrize("study", REPEATED.values(), ids=REPEATED)


@functools.cache
def once(estimate):
    return estimate(ONCE)


def estimate_shares(study):
    return estimate_importance(study, replicates=1000)


def assert_each_is_as_before(table, before, conditions):
    """Each of the conditions has the rows of the study that was trained once, under names of its own."""
    names = ["network", "conditions", "training"]
    parts = [part for _, part in table.groupby(conditions)]
    assert len(parts) > 1
    for part in parts:
        pd.testing.assert_frame_equal(
            part.drop(columns=names, errors="ignore").reset_index(drop=True),
            before.drop(columns=names, errors="ignore"),
        )


@repeated
def test_the_tradeoff_is_as_sure_as_before(study):
    result, before = fit_tradeoff(study), once(fit_tradeoff)
    numbers = ["coefficient", "low", "high", "p_value", "low_between_networks", "high_between_networks"]
    rows, rows_before = (
        table.set_index("term").loc[list(COVARIATES), numbers] for table in (result.coefficients, before.coefficients)
    )
    pd.testing.assert_frame_equal(rows, rows_before, rtol=1e-4)
    assert result.depth_p_value == pytest.approx(before.depth_p_value)
    assert (result.shared, result.shared_p_value) == (before.shared, pytest.approx(before.shared_p_value))
    assert say_what_stops(result) == say_what_stops(before)
    pd.testing.assert_frame_equal(result.scores.drop(columns="trials"), before.scores.drop(columns="trials"))
    assert_each_is_as_before(result.critical, before.critical, result.critical["network"].str.partition(" ")[2])
    for training, estimate in result.critical_gsc.items():
        assert estimate.write(4) == before.critical_gsc[training.partition(" ")[0]].write(4)


@repeated
def test_rules_depths_and_fronts_are_of_one_condition_each(study):
    rules = compare_depth_rules(study)
    assert_each_is_as_before(rules.table, once(compare_depth_rules).table, rules.table["conditions"])
    for estimate in (estimate_trainable_depths, estimate_pareto_front, estimate_best_dilutions):
        table = estimate(study).table
        assert_each_is_as_before(table, once(estimate).table, table["network"].str.partition(" ")[2])


@pytest.mark.parametrize("estimate", [estimate_explosion_rates, compare_growth_forms, check_dilution_law])
@pytest.mark.parametrize("name", ["precision and epochs", "training images"])
def test_untrained_networks_count_once(estimate, name):
    pd.testing.assert_frame_equal(estimate(REPEATED[name]).table, once(estimate).table)


@repeated
def test_shares_of_variance_are_as_sure_as_before(study):
    before, result = once(estimate_shares), estimate_shares(study)
    assert result.method == before.method == SHARES
    rows, rows_before = (table.table.set_index("term") for table in (result, before))
    assert rows.loc[rows_before.index, "share"].tolist() == pytest.approx(rows_before["share"].tolist(), abs=1e-12)
    assert rows.drop(rows_before.index)["share"].max() == pytest.approx(0, abs=1e-12)
    widths, before = ((table["high"] - table["low"]).loc[rows_before.index] for table in (rows, rows_before))
    assert widths.tolist() == pytest.approx(before.tolist(), rel=0.15, abs=1e-3)  # a bootstrap's own chance


def test_results_of_different_epochs_are_not_those_of_seeds():
    """After 5 epochs more have failed: an intercept says so, and what 10 epochs say stays what it is."""
    study = REPEATED["epochs"]
    short = study.trials["epochs"] == 5
    study = dataclasses.replace(study, trials=study.trials.assign(
        final_train_error=study.trials["final_train_error"].mask(short & (study.trials["depth"] > 10), 0.9)
    ))  # fmt: skip
    result = fit_tradeoff(study)
    intercepts = result.coefficients.set_index("term")["coefficient"]
    assert intercepts["α adam epochs=5"] > intercepts["α adam epochs=10"] + 1
    for training in ("adam", "sgd"):
        assert result.critical_gsc[f"{training} epochs=10"] == once(fit_tradeoff).critical_gsc[training]


@pytest.mark.parametrize("alone", [("batch", "relu"), ("none", "relu")])
def test_conditions_of_one_network_alone_take_no_interval_from_the_others(alone):
    trials = REPEATED["precision"].trials
    kept = (trials["precision"] == "fp32") | (trials["normalization"] + trials["activation"] == "".join(alone))
    study = dataclasses.replace(ONCE, trials=name_groups(trials[kept]))
    result = tabulate_coefficients(add_covariates(choose_outcomes(study).table)).set_index("term")
    assert result.loc[[GSC, DEPTH, "α adam precision=fp32"], "low_between_networks"].notna().all()
    assert np.isnan(result.loc["α adam precision=bf16", "low_between_networks"])


def test_conditions_that_are_sampled_are_not_compared():
    decays = np.random.default_rng(0).random(len(ONCE.trials))
    study = dataclasses.replace(ONCE, trials=name_groups(ONCE.trials.assign(weight_decay=decays)))
    pd.testing.assert_frame_equal(fit_tradeoff(study).coefficients, once(fit_tradeoff).coefficients)
