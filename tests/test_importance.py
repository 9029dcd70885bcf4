"""Shares of variance that are known, and PED-ANOVA where a space is sampled."""

import dataclasses
import math
from collections import Counter

import numpy as np
import pandas as pd
import pytest

from analysis import ped_anova
from analysis.importance import PED_ANOVA, SHARES, estimate_importance
from analysis.variance_shares import SEEDS, Plots, split_variance
from tests.simulated_studies import Truth, simulate_study

TRUTH = Truth(depths=(4, 10, 25), dilutions=(0.0, 1.0), learning_rates=(1e-3, 1e-2), optimizers=("adam", "sgd"))


def set_errors(study, formula):
    return dataclasses.replace(study, trials=study.trials.assign(final_train_error=formula(study.trials)))


def test_shares_of_a_sum_and_a_product():
    i, j, _ = np.meshgrid([0.0, 1], [0.0, 1], [0.0, 1, 2], indexing="ij")
    shares = split_variance(["i", "j", "k"], i + j + 2 * i * j, np.zeros(i.shape), np.full(i.shape, 2.0), 50)
    # i + j + 2ij = 2i + 2j + 2(i − ½)(j − ½) − ½: variances 1, 1 and 4/16.
    expected = {"i": 4 / 9, "j": 4 / 9, "k": 0, "i × j": 1 / 9, "i × k": 0, "j × k": 0, "higher orders": 0, "seeds": 0}
    assert dict(zip(shares.terms, shares.share, strict=True)) == pytest.approx(expected, abs=1e-12)
    assert shares.low == pytest.approx(shares.share)


def test_a_triple_product_is_of_higher_order():
    i, j, k = np.meshgrid([-1.0, 1], [-1.0, 1], [-1.0, 1], indexing="ij")
    shares = split_variance(["i", "j", "k"], i * j * k, np.zeros(i.shape), np.full(i.shape, 2.0), 50)
    assert shares.share[shares.terms.index("higher orders")] == pytest.approx(1)


def test_noise_is_no_effect_and_intervals_cover():
    """True shares: i ½, j 0, noise ½, two seeds a cell."""
    generator = np.random.default_rng(0)
    i, _ = np.meshgrid([-1.0, 1] * 2, np.arange(5.0), indexing="ij")
    covered, nothing = 0, []
    for repetition in range(300):
        y = i + generator.standard_normal((2, *i.shape))
        shares = split_variance(
            ["i", "j"], y.mean(axis=0), y.var(axis=0, ddof=1), np.full(i.shape, 2.0), 200, repetition
        )
        covered += shares.low[0] <= 0.5 <= shares.high[0]
        nothing.append(shares.share[1])
    assert np.mean(nothing) < 0.02
    assert covered / 300 >= 0.90


def test_a_factorial_space_has_shares():
    study = set_errors(simulate_study(TRUTH), lambda trials: 0.1 * trials["dilution"] + 0.02 * np.log(trials["depth"]))
    result = estimate_importance(study)
    assert (result.method, result.trials) == (SHARES, 96)
    shares = result.table.set_index("term")["share"]
    depths = np.var(0.02 * np.log(study.trials["depth"].unique()))
    assert shares["dilution"] == pytest.approx(0.0025 / (0.0025 + depths), rel=1e-9)
    assert shares.sum() == pytest.approx(1)
    assert "learning_rate × depth" in shares.index


def assert_unbiased_and_covered(results, expected):
    """Of the `expected` terms, shares average to the truth, and intervals hold it often enough."""
    for term, truth in expected.items():
        places = [result.terms.index(term) for result in results]
        values = np.array([result.share[place] for result, place in zip(results, places, strict=True)])
        assert values.mean() == pytest.approx(truth, abs=4 * values.std() / math.sqrt(len(values)))
        held = [r.low[place] <= truth <= r.high[place] for r, place in zip(results, places, strict=True)]
        assert np.mean(held) > 0.9


def test_shares_are_unbiased_and_their_intervals_cover():
    generator, sigma, seeds, repetitions = np.random.default_rng(0), 0.2, 2, 150
    a, b = np.arange(6) * 0.05, np.arange(8) * 0.03
    truth = a[:, None, None] + b[None, :, None] + np.zeros((6, 8, 3))
    whole = truth.var() + sigma**2
    expected = {"a": a.var() / whole, "b": b.var() / whole, SEEDS: sigma**2 / whole}
    results = []
    for repetition in range(repetitions):
        errors = truth[..., None] + sigma * generator.standard_normal((*truth.shape, seeds))
        counts = np.full(truth.shape, float(seeds))
        results.append(split_variance(list("abc"), errors.mean(-1), errors.var(-1, ddof=1), counts, 200, repetition))
    assert_unbiased_and_covered(results, expected)


@pytest.mark.parametrize("shared", [0.0, 0.7, 1.0])
def test_conditions_of_a_network_share_its_luck(shared):
    """`shared` of the variance over seeds is a network's own, the same under all three conditions (factor c)."""
    generator, sigma, seeds, repetitions = np.random.default_rng(0), 0.2, 3, 150
    a, c = np.arange(6) * 0.05, np.arange(3) * 0.05
    truth = a[:, None, None] + c + np.zeros((6, 4, 3))
    whole = truth.var() + sigma**2
    expected = {"a": a.var() / whole, "c": c.var() / whole, SEEDS: sigma**2 / whole}
    results = []
    for repetition in range(repetitions):
        own = math.sqrt(shared) * generator.standard_normal((6, 4, 1, seeds))
        errors = truth[..., None] + sigma * (
            own + math.sqrt(1 - shared) * generator.standard_normal((*truth.shape, seeds))
        )
        plots = Plots(errors.mean(axis=2, keepdims=True).var(-1, ddof=1), np.full((6, 4, 1), float(seeds)))
        counts = np.full(truth.shape, float(seeds))
        results.append(
            split_variance(list("abc"), errors.mean(-1), errors.var(-1, ddof=1), counts, 200, repetition, plots=plots)
        )
    assert_unbiased_and_covered(results, expected)


def test_what_changes_together_counts_once():
    study = simulate_study(TRUTH)
    study.trials["momentum"] = np.where(study.trials["optimizer"] == "sgd", 0.9, 0.0)
    result = estimate_importance(set_errors(study, lambda trials: trials["depth"] / 100))
    assert not result.table["term"].str.contains("momentum").any()
    assert result.table["term"].iloc[0] == "depth"


def test_incomplete_values_are_left_out_and_said():
    study = set_errors(simulate_study(TRUTH), lambda trials: trials["dilution"] / 10)
    study.trials.loc[(study.trials["depth"] == 25) & (study.trials["dilution"] == 1), "final_train_error"] = np.nan
    result = estimate_importance(study)
    assert "depth = 25" in result.note
    assert result.table.set_index("term")["share"]["dilution"] == pytest.approx(1)


def test_a_sampled_space_has_ped_anova():
    generator, study = np.random.default_rng(0), simulate_study(TRUTH)
    count = len(study.trials)
    study.trials["learning_rate"] = 10 ** generator.uniform(-4, -1, count)
    study.trials["dilution"] = generator.uniform(0, 4, count)
    study = set_errors(study, lambda trials: (np.log10(trials["learning_rate"]) + 2) ** 2)
    result = estimate_importance(study, replicates=10)
    assert result.method == PED_ANOVA
    assert result.table["term"].iloc[0] == "learning_rate"
    assert result.table["share"].sum() == pytest.approx(1)
    assert (result.table["low"] <= result.table["high"]).all()
    assert result.table["note"].iloc[0] == ""
    assert "exchange them" in result.note


def test_ped_anova_finds_little_in_noise():
    """Of 24 shares in studies of noise 5% are larger than chance; more than 4 would be one case of 170."""
    generator, larger = np.random.default_rng(1), 0
    for _ in range(8):
        parameters = pd.DataFrame(generator.uniform([0, 1, 1], [4, 5, 100], (60, 3)), columns=["k", "x", "y"])
        table = ped_anova.rank_parameters(parameters, generator.random(60), np.arange(60), 20)
        larger += (table["share"] > table["chance"]).sum()
    assert larger <= 4


def test_errors_are_exchanged_network_by_network(monkeypatch):
    """30 networks of two trials with neighbouring errors: in other networks, they are neighbours still."""
    seen = []
    monkeypatch.setattr(
        ped_anova, "_evaluate", lambda trials, names: seen.append([trial.value for trial in trials]) or [1.0]
    )
    networks = np.arange(60) % 30
    errors = networks + np.repeat([0.0, 0.5], 30)
    ped_anova.rank_parameters(pd.DataFrame({"x": np.arange(60.0)}), errors, networks, 3)
    for exchanged in seen[-3:]:
        assert sorted(exchanged) == sorted(errors)
        assert exchanged != errors.tolist()
        assert np.subtract(exchanged[30:], exchanged[:30]).tolist() == [0.5] * 30


def test_ped_anova_draws_networks_with_all_their_trials(monkeypatch):
    """30 networks, each under two conditions: how often one was drawn is twice a whole number."""
    counts = []
    monkeypatch.setattr(
        ped_anova, "_evaluate", lambda trials, names: counts.append(Counter(trial.value for trial in trials)) or [1.0]
    )
    parameters, networks = pd.DataFrame({"x": np.arange(60.0)}), np.arange(60) % 30
    ped_anova.rank_parameters(parameters, networks.astype(float), networks, 5)
    own, *others = counts
    drawn, shuffled = others[:5], others[5:]
    assert all(times % 2 == 0 for count in counts for times in count.values())
    assert len({frozenset(count.items()) for count in (own, *drawn)}) == 6
    assert shuffled == [own] * 5
    with pytest.raises(ValueError, match="19 different ones ended"):
        ped_anova.rank_parameters(parameters, networks.astype(float), networks % 19, 5)
