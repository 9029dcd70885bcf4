"""What decides in a simulated study is what the trade-off says decides."""

import dataclasses
import math

import numpy as np
import pytest
from scipy import special, stats

from analysis.best_learning_rates import choose_outcomes
from analysis.critical_gsc import find_critical_gsc, tabulate_critical
from analysis.estimates import Estimate
from analysis.failure_design import COVARIATES, GSC, add_covariates, make_design, weigh_trials
from analysis.firth_logistic import fit_firth, profile_interval
from analysis.tradeoff import EVERY_NETWORK, MODELS, fit_tradeoff, score_models, tabulate_coefficients
from analysis.what_stops import say_what_stops
from tests.simulated_studies import Truth, repeat_trials, simulate_study

TRUTH = Truth(
    rates={("batch", "relu"): 1.2, ("layer", "tanh"): 1.08, ("none", "relu"): 1.02, ("batch", "tanh"): 1.12},
    dilutions=(0.0, 1.0),
    optimizers=("adam", "sgd"),
    seeds=3,
    steepness=2.0,
    layer_noise=0.05,
    critical_log10_gsc=2.0,
)


def test_where_gsc_decides():
    result = fit_tradeoff(simulate_study(TRUTH, seed=2))
    assert result.depth_p_value > 0.05
    assert "not shown to add anything" in result.depth_adds
    assert "not contradicted" in result.shared
    for estimate in result.critical_gsc.values():
        assert estimate.contains(2.0)
        assert estimate.high - estimate.low < 1
    scores = result.scores[result.scores["held_out"] == EVERY_NETWORK].set_index("model")["log_loss"]
    assert scores["GSC"] < scores["depth"] < scores["optimizer alone"]
    assert set(scores.index) == set(MODELS)
    coefficients = result.coefficients.set_index("term")
    assert coefficients.loc["ln GSC", "low"] > 0
    assert coefficients.loc["ln GSC", "low_between_networks"] < coefficients.loc["ln GSC", "coefficient"]


def test_where_depth_decides():
    result = fit_tradeoff(simulate_study(dataclasses.replace(TRUTH, steepness=None, spread=0.25, trainable_depth=30.0)))
    assert "GSC does not suffice: at equal GSC deeper networks fail more often" in result.depth_adds
    assert "is not the same in all 4 networks" in result.shared
    for estimate in result.critical_gsc.values():
        assert estimate.is_known
        assert (estimate.low, estimate.high) == (None, None)
    scores = result.scores[result.scores["held_out"] == EVERY_NETWORK].set_index("model")["log_loss"]
    assert scores["depth"] < scores["GSC"]


def test_a_gsc_of_their_own():
    """Networks fail at a common depth: each then has the GSC of that depth as its critical one."""
    result = fit_tradeoff(
        simulate_study(dataclasses.replace(TRUTH, steepness=None, spread=0.25, trainable_depth=30.0, dilutions=(0.0,)))
    )
    critical = result.critical.set_index(["network", "optimizer"])
    for network, rate in (("batch-relu", 1.2), ("layer-tanh", 1.08)):
        row = critical.loc[(network, "adam")]
        assert row["low"] < 29 * math.log10(rate) < row["high"]


def test_scores_are_of_networks_that_were_left_out():
    study = simulate_study(TRUTH)
    scores = fit_tradeoff(study).scores.query("model == 'optimizer alone' and held_out == 'batch-relu'")
    y = (study.trials["final_train_error"] > 0.6).to_numpy()
    own = (study.trials["network"] == "batch-relu").to_numpy()
    loss, squares = [], []
    for optimizer in ("adam", "sgd"):
        chosen = (study.trials["optimizer"] == optimizer).to_numpy()
        p = (y[chosen & ~own].sum() + 0.5) / ((chosen & ~own).sum() + 1)
        loss.append(-np.log(np.where(y[chosen & own], p, 1 - p)).mean())
        squares.append(np.square(y[chosen & own] - p).mean())
    assert scores["log_loss"].item() == pytest.approx(np.mean(loss))
    assert scores["brier"].item() == pytest.approx(np.mean(squares))


def test_the_interval_between_networks_is_that_of_the_jackknife():
    trials = add_covariates(choose_outcomes(simulate_study(TRUTH, seed=2)).table)
    X, terms = make_design(trials, COVARIATES)
    networks, fits = sorted(set(trials["architecture"])), []
    for network in networks:
        kept = (trials["architecture"] != network).to_numpy()
        weights = weigh_trials(trials[kept], X[kept])
        fits.append(fit_firth(X[kept], trials["y"].to_numpy()[kept], weights).coefficients)
    count = len(networks)
    variance = (count - 1) / count * np.square(fits - np.mean(fits, axis=0)).sum(axis=0)
    half = stats.t(count - 1).ppf(0.975) * np.sqrt(variance)
    table = tabulate_coefficients(trials).set_index("term").loc[terms]
    assert count > 3
    assert table["low_between_networks"].to_numpy() == pytest.approx(table["coefficient"] - half)
    assert table["high_between_networks"].to_numpy() == pytest.approx(table["coefficient"] + half)


def test_what_is_not_known_of_the_network_left_out_is_not_asked_of_it():
    study = simulate_study(TRUTH)
    outcomes = choose_outcomes(study).table
    trials = add_covariates(
        outcomes.assign(pseudo_linearity=outcomes["pseudo_linearity"].where(outcomes["network"] != "batch-relu"))
    )
    scores = score_models(trials)
    assert scores["log_loss"].notna().all()
    by_model = scores.set_index(["model", "held_out"])["log_loss"]
    assert by_model["GSC, depth and pseudo-linearity"].equals(by_model["GSC and depth"])


def test_a_critical_gsc_is_not_extrapolated():
    trials = add_covariates(choose_outcomes(simulate_study(TRUTH, seed=2)).table)
    rises = dataclasses.replace(TRUTH, critical_log10_gsc=40.0, steepness=0.1)
    for truth in (TRUTH, rises):
        trials = add_covariates(choose_outcomes(simulate_study(truth, seed=3), 0.5).table)
        table, greatest = tabulate_critical(trials), float(trials["log10_gsc"].max())
        assert not (table["critical_log10_gsc"] > greatest).any()
        assert not (table["low"] > greatest).any()
    lucky = trials.assign(y=(np.arange(len(trials)) % 10 == 0).astype(float))  # rare, whatever the GSC
    for estimate in find_critical_gsc(lucky).values():
        assert estimate.value is None
        assert estimate.note


def test_what_does_not_vary_is_left_out_and_said():
    coefficients = fit_tradeoff(simulate_study(dataclasses.replace(TRUTH, dilutions=(0.0,)))).coefficients
    (row,) = coefficients[coefficients["term"] == "pseudo-linearity"].itertuples()
    assert math.isnan(row.coefficient)
    assert "does not vary" in row.note


@pytest.mark.slow
@pytest.mark.timeout(1200)  # minutes on one busy core
def test_intervals_of_the_critical_gsc_cover():
    # A width of its own is a repetition of the same study.
    truth = dataclasses.replace(TRUTH, optimizers=("adam",), widths=tuple(range(2, 302)))
    trials = add_covariates(choose_outcomes(simulate_study(truth)).table)
    repetitions = trials.groupby(trials["network"].str.rpartition("width=")[2])
    covered = [find_critical_gsc(group)["adam"].contains(2.0) for _, group in repetitions]
    assert len(covered) == 300
    print(f"critical GSC: {np.mean(covered):.1%} of 300")
    assert 0.92 <= np.mean(covered) <= 0.98


@pytest.mark.slow
@pytest.mark.timeout(1200)  # minutes on one busy core
@pytest.mark.parametrize("alike", [0.0, 0.5, 1.0])
def test_intervals_of_the_rise_cover_where_trials_are_repeated(alike):
    """Every training is done for 10 and for 5 epochs; the share `alike` of them ends the same way."""
    truth, covered = dataclasses.replace(TRUTH, optimizers=("adam",), seeds=2), []
    for repetition in range(300):
        study, generator = simulate_study(truth, seed=repetition), np.random.default_rng(repetition)
        chance = special.expit(2.0 * math.log(10) * (study.trials["initial_log10_gsc"] - 2.0))
        long, fresh = generator.random((2, len(chance)))
        short = np.where(generator.random(len(chance)) < alike, long, fresh)
        study = repeat_trials(study, epochs=5)
        study.trials["final_train_error"] = np.where(np.r_[long < chance, short < chance], 0.9, 0.3)
        trials = add_covariates(choose_outcomes(study).table)
        X, terms = make_design(trials, (GSC,))
        bounds = profile_interval(X, trials["y"].to_numpy(), terms.index(GSC), weigh_trials(trials, X))
        covered.append(Estimate(2.0, *bounds).contains(2.0))
    print(f"rise of ln odds with ln GSC, {alike:.0%} of repeated trainings alike: {np.mean(covered):.1%} of 300")
    assert np.mean(covered) >= 0.92


CONFOUNDED = Truth(
    rates={("batch", "relu"): 1.2, ("layer", "tanh"): 1.1, ("batch", "tanh"): 1.2},
    optimizers=("adam", "sgd"),
    seeds=6,
    layer_noise=0.02,
    spread=0.2,
    trainable_depth=lambda optimizer, growth: 45.0 if optimizer == "adam" else 6.0,
)


def keep_trials(study, kept):
    return dataclasses.replace(study, trials=study.trials[kept])


def test_networks_are_compared_where_they_were_trained_alike():
    study = simulate_study(CONFOUNDED, seed=1)
    is_batch, by_adam = study.trials["normalization"] == "batch", study.trials["optimizer"] == "adam"
    result = fit_tradeoff(keep_trials(study, (is_batch & by_adam) | (~is_batch & ~by_adam)))
    assert "One critical GSC for networks that were trained alike is not contradicted" in result.shared
    is_relu = study.trials["activation"] == "relu"
    result = fit_tradeoff(keep_trials(study, (is_batch & is_relu & by_adam) | (~is_batch & ~by_adam)))
    assert result.shared.endswith("cannot be told: no two networks were trained alike.")
    once = Truth(rates={("batch", "relu"): 1.3, ("layer", "tanh"): 1.02}, depths=(40,), seeds=1, trainable_depth=None)
    result = fit_tradeoff(simulate_study(once))
    assert result.shared.endswith("cannot be told: GSC does not vary within networks.")
    assert fit_tradeoff(keep_trials(study, ~is_batch)).shared.endswith("there is one network alone.")


def test_trainings_without_a_gsc_are_counted():
    study = simulate_study(dataclasses.replace(TRUTH, seeds=3))
    assert "finite GSC" not in fit_tradeoff(study).note
    gone = (study.trials["final_train_error"] > 0.8) & (study.trials["seed"] > 0)
    study.trials.loc[gone, "initial_log10_gsc"] = math.nan
    note = fit_tradeoff(study).note
    study.trials.loc[study.trials["final_train_error"] > 0.8, "initial_log10_gsc"] = math.inf
    result = fit_tradeoff(study)
    assert result.note.startswith("There is no trade-off to fit: 0 of ")
    assert "trainings with a finite GSC before training failed, and it takes both kinds" in say_what_stops(result)
    assert f"{gone.sum()} began without a finite GSC and are left out of the trade-off; {gone.sum()} of them" in note
