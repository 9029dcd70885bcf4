"""Fronts against the definition, written out, and membership that knows what is sure."""

import dataclasses

import numpy as np
import pytest

from analysis.pareto import estimate_pareto_front, find_front
from tests.simulated_studies import CHANCE, Truth, simulate_study

TRUTH = Truth(dilutions=(0.0, 1.0, 4.0), depths=(50,), best_dilution=1.0, trainable_depth=1e6)
RATES = {("batch", "relu"): 1.2, ("batch", "tanh"): 1.1}


def test_the_front_is_that_of_the_definition():
    points = np.random.default_rng(0).integers(0, 4, size=(5, 12, 3)).astype(float)
    for cloud, front in zip(points, find_front(points), strict=True):
        for own, on_front in zip(cloud, front, strict=True):
            beaten = any((other <= own).all() and (other < own).any() for other in cloud)
            assert on_front == (not beaten)


def test_a_sure_front():
    table = estimate_pareto_front(simulate_study(TRUTH)).table
    # k = 0 is least linear, k = 1 has the least error, k = 4 explodes least.
    assert table["on_front"].all()
    assert table["membership"].tolist() == [1.0, 1.0, 1.0]
    assert table["log10_gsc"].is_monotonic_decreasing


def test_what_is_dominated_is_not_on_it():
    study = simulate_study(dataclasses.replace(TRUTH, rates=RATES))
    # relu explodes faster at the same error and linearity.
    table = estimate_pareto_front(study).table.groupby("network")["membership"].max()
    assert table.to_dict() == {"batch-relu": 0.0, "batch-tanh": 1.0}


def test_noise_makes_membership_uncertain():
    noisy = dataclasses.replace(TRUTH, rates={("batch", "relu"): 1.1, ("batch", "tanh"): 1.1}, layer_noise=0.05)
    membership = estimate_pareto_front(simulate_study(noisy)).table["membership"]
    assert ((membership > 0) & (membership < 1)).any()


def test_not_exploding_less_is_no_merit():
    study = simulate_study(dataclasses.replace(TRUTH, rates={("layer", "relu"): 1.0, ("layer", "tanh"): 1.0}))
    study.trials.loc[study.trials["activation"] == "relu", "initial_log10_gsc"] = -5.0
    assert estimate_pareto_front(study).table.query("dilution == 1")["on_front"].tolist() == [True, True]


def test_no_seeds_could_have_ended_worse_than_a_guess():
    # Tanh explodes less, and with luck it learns; relu never learns anything: it is beaten whatever the seeds.
    study = simulate_study(dataclasses.replace(TRUTH, dilutions=(0.0,), rates=RATES, seeds=2))
    errors = {"batch-relu": [CHANCE, CHANCE], "batch-tanh": [CHANCE, 0.3]}
    for network, ends in errors.items():
        study.trials.loc[study.trials["network"] == network, "final_train_error"] = ends
    membership = estimate_pareto_front(study).table.set_index("network")["membership"]
    assert membership.to_dict() == {"batch-relu": 0.0, "batch-tanh": 1.0}


def test_the_learning_rate_is_the_best_one():
    table = estimate_pareto_front(
        simulate_study(dataclasses.replace(TRUTH, learning_rates=(1e-3, 1e-2), best_dilution=None))
    ).table
    assert table["error"].tolist() == pytest.approx([0.3] * 3)


def test_a_missing_trial_does_not_change_the_rate():
    study = simulate_study(dataclasses.replace(TRUTH, learning_rates=(1e-3, 1e-2), best_dilution=None))
    lost = (study.trials["seed"] == 3) & (study.trials["learning_rate"] == 1e-3)
    table = estimate_pareto_front(dataclasses.replace(study, trials=study.trials[~lost])).table
    assert table["error"].tolist() == pytest.approx([0.3] * 3)
