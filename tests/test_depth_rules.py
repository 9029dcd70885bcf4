"""The rule that a study was simulated with is the one that predicts best."""

import dataclasses
import math

import numpy as np
import pytest

from analysis.depth_rules import CRITICAL, ONE_DEPTH, OWN, SCALED, YANG, _score_held_out, compare_depth_rules
from tests.simulated_studies import Truth, simulate_study

TRUTH = Truth(
    rates={("batch", "relu"): 1.2, ("layer", "tanh"): 1.08, ("none", "relu"): 1.0, ("batch", "tanh"): 1.12},
    dilutions=(0.0, 1.0),
    spread=0.2,
    layer_noise=0.05,
)


def rules_of(**truth):
    result = compare_depth_rules(simulate_study(dataclasses.replace(TRUTH, **truth)))
    return result, result.table.set_index("rule")


def test_a_critical_gsc_is_found():
    result, table = rules_of(trainable_depth=None, critical_log10_gsc=2.5)
    critical = table.loc[CRITICAL]
    assert critical["constant_low"] < 2.5 < critical["constant_high"]
    assert critical["p_against_own"] > 0.05 > table.loc[ONE_DEPTH, "p_against_own"]
    assert critical["held_out_log_loss"] < table.loc[ONE_DEPTH, "held_out_log_loss"] / 2
    assert "by one critical GSC" in result.verdicts["adam"]


def test_one_depth_is_found():
    result, table = rules_of(trainable_depth=30.0)
    assert "told best by one depth for all" in result.verdicts["adam"]
    assert table.loc[ONE_DEPTH, "constant_low"] < 30 < table.loc[ONE_DEPTH, "constant_high"]
    assert table.loc[[SCALED, YANG, CRITICAL], "p_against_own"].max() < 1e-6


def test_a_rule_that_is_excluded_has_no_interval():
    _, table = rules_of(trainable_depth=30.0)
    assert table.loc[[SCALED, CRITICAL], ["constant_low", "constant_high"]].isna().all(axis=None)
    assert table.loc[SCALED, "note"] == "no interval: cells differ by more than one constant leaves to chance"
    units = {OWN: "", ONE_DEPTH: "layers", SCALED: "κ", YANG: "κ", CRITICAL: "log10 GSC"}
    assert table["unit"].to_dict() == units


def test_the_rule_of_yang_is_found():
    _, table = rules_of(trainable_depth=lambda optimizer, ln_rate: 8 / ln_rate if ln_rate > 1e-9 else 1e6)
    assert table.loc[SCALED, "constant_low"] < 16 < table.loc[SCALED, "constant_high"]
    assert table.loc[YANG, "p_against_own"] > 0.05


def test_what_others_say_nothing_of_is_averaged_and_not_guessed():
    total = np.zeros((4, 1, 1))
    knows = np.log(np.array([0.01, 0.01, 0.5, 0.5])).reshape(4, 1, 1)  # the other part is as likely everywhere
    flat = np.full((4, 1, 1), math.log(0.5))
    loss = _score_held_out({"a": knows, "b": flat}, total + knows + flat)
    assert loss == pytest.approx(-math.log(np.exp(knows).mean()) - math.log(0.5))


def test_numbers_of_parameters_and_likelihoods_are_consistent():
    _, table = rules_of(trainable_depth=30.0)
    assert table["parameters"].to_dict() == {OWN: 10, ONE_DEPTH: 3, SCALED: 3, YANG: 2, CRITICAL: 3}
    # The grids of cells and of rules differ by less than this.
    assert table.loc[OWN, "log_likelihood"] >= table["log_likelihood"].max() - 0.1
    assert table.loc[SCALED, "log_likelihood"] >= table.loc[YANG, "log_likelihood"] - 0.1
    assert table["aic"].tolist() == pytest.approx((2 * table["parameters"] - 2 * table["log_likelihood"]).tolist())


def test_any_factor_is_found():
    slow = {("batch", "relu"): 1.004, ("layer", "tanh"): 1.002, ("none", "relu"): 1.001, ("batch", "tanh"): 1.003}
    _, table = rules_of(rates=slow, layer_noise=0.0, trainable_depth=lambda optimizer, ln_rate: 0.05 / ln_rate)
    assert table.loc[SCALED, "constant_low"] < 0.1 < table.loc[SCALED, "constant_high"]
    assert table.loc[SCALED, "p_against_own"] > 0.05
    assert table.loc[SCALED, "held_out_log_loss"] < table.loc[ONE_DEPTH, "held_out_log_loss"]


def test_what_nothing_tells_has_no_constant():
    shrinking = {("layer", "relu"): 0.98, ("layer", "tanh"): 0.97, ("none", "tanh"): 0.99}
    result, table = rules_of(rates=shrinking, dilutions=(0.0,), layer_noise=0.0, trainable_depth=30.0)
    assert table.loc[[SCALED, CRITICAL], "constant"].isna().all()
    assert set(table.loc[[SCALED, CRITICAL], "note"]) == {"nothing tells the constant"}
    assert "nan" not in result.verdicts["adam"]


@pytest.mark.parametrize("rate", [1.2, 1.01])
def test_a_constant_of_which_a_bound_alone_is_told_says_so(rate):
    """What explodes never fails, and what does not explode fails: all that is known of κ is that it is large."""
    rates = {("batch", "relu"): rate, ("layer", "relu"): 0.98}
    _, table = rules_of(
        rates=rates,
        dilutions=(0.0,),
        layer_noise=0.0,
        trainable_depth=lambda optimizer, ln_rate: 1e6 if ln_rate > 0 else 30.0,
    )
    assert np.isnan(table.loc[SCALED, "constant"])
    assert table.loc[SCALED, "constant_low"] > 100 * np.log(rate)
    assert table.loc[SCALED, "note"] == "only a bound of the constant is told"
