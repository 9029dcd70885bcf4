"""The three sentences say what the estimates say: intervals, open bounds, and what cannot be told."""

import dataclasses
import math

import pandas as pd
import pytest

from analysis.best_dilution import DILUTION_COLUMNS, BestDilutions
from analysis.failure_design import GSC
from analysis.how_deep import say_how_deep
from analysis.tradeoff import COEFFICIENT_COLUMNS, Tradeoff
from analysis.trainable_depth import DEPTH_COLUMNS, TrainableDepths
from analysis.what_fixes import say_what_fixes
from analysis.what_stops import say_what_stops

NAN = math.nan


def make_depths(*rows, note=""):
    """Rows of network, k, D50 and its bounds."""
    names = ["network", "dilution", "d50", "d50_low", "d50_high"]
    table = pd.DataFrame([dict(zip(names, row, strict=True)) for row in rows], columns=names)
    table = table.assign(optimizer="adam", architecture=[row[0].partition(" ")[0] for row in rows], note="")
    return TrainableDepths(table.reindex(columns=DEPTH_COLUMNS), 0.6, note)


def make_best(network="a", depth=50, best=4.0, low=2.0, high=NAN, error=0.4, without=0.9, kept="2, 4"):
    row = {"network": network, "optimizer": "adam", "depth": depth, "best_dilution": best, "low": low, "high": high}
    row |= {"error": error, "error_without": without, "not_excluded": kept, "note": ""}
    row |= {"architecture": network.partition(" ")[0]}
    return BestDilutions(pd.DataFrame([row]).reindex(columns=DILUTION_COLUMNS))


def join_best(*parts):
    return BestDilutions(pd.concat([part.table for part in parts], ignore_index=True))


def make_tradeoff(coefficient, low, high, depth_adds="Given GSC, depth adds nothing.", between=(0.1, 3.0), losses=None):
    """`losses` by model, of all networks, each left out of the fit."""
    row = {"term": GSC, "coefficient": coefficient, "low": low, "high": high, "note": ""}
    row |= dict(zip(("low_between_networks", "high_between_networks"), between, strict=True))
    nothing = pd.DataFrame()
    scores = [{"model": model, "held_out": "all", "log_loss": loss} for model, loss in (losses or {}).items()]
    table = pd.DataFrame([row]).reindex(columns=COEFFICIENT_COLUMNS)
    return Tradeoff(table, pd.DataFrame(scores), nothing, depth_adds, 0.5, "", None, {}, 0.6)


FAIL = "without skip paths (k = 0) fail (end above a training error of 0.6)"


def test_the_shallowest_and_the_deepest_without_skip_paths_are_named():
    said = say_how_deep(
        make_depths(
            ("b", 0.0, 60.0, 50.0, 70.0),
            ("a", 0.0, 20.0, 15.0, 27.0),
            ("c", 0.0, NAN, 90.0, NAN),
            ("d", 0.0, NAN, NAN, 4.0),
            ("e", 0.0, NAN, 14.0, 30.0),
            ("a", 4.0, 99.0, 80.0, NAN),
        ),
        " after 3 epochs",
    )
    assert said == (
        f"Half of the trainings {FAIL[:-1]} after 3 epochs) at depth 20 (95% interval 15 to 27) for a with adam, the "
        "shallowest of 3 that can be ranked, at depth 60 (95% interval 50 to 70) for b with adam, the deepest of "
        "them, only beyond depth 90 (95% bound) for c with adam, and by depth 4 (95% bound) for d with adam."
    )


def test_networks_that_share_a_depth_are_named_together():
    beyond, shallow = (NAN, 90.0, NAN), ("s", 0.0, 20.0, 15.0, 27.0)
    said = say_how_deep(make_depths(("b", 0.0, *beyond), shallow, ("c", 0.0, *beyond)))
    assert said == (
        f"Half of the trainings {FAIL} at depth 20 (95% interval 15 to 27) for s with adam, and only beyond depth 90 "
        "(95% bound) for b with adam and c with adam."
    )
    said = say_how_deep(make_depths(shallow, *((name, 0.0, *beyond) for name in "bcd")))
    assert said.endswith("only beyond depth 90 (95% bound) for b with adam and 2 more.")
    said = say_how_deep(make_depths(*((name, 0.0, *beyond) for name in "bcd")))
    assert said == (f"Half of the trainings {FAIL} only beyond depth 90 (95% bound) for all 3 networks and optimizers.")
    said = say_how_deep(make_depths(("a", 0.0, NAN, 14.5, 30.3), ("b", 0.0, 48.0, 40.0, 60.0)))
    assert "between depth 14.5 and 30.3 (95% interval) for a with adam, the shallowest of two" in said
    assert said.endswith("at depth 48 (95% interval 40 to 60) for b with adam, the deepest of them.")


@pytest.mark.parametrize(
    ("rules", "ending"),
    [
        ([(42.0, 37.0, 49.0)], "16/ln χ, is 42, deeper than that interval."),
        ([(42.0, 26.0, 99.0)], "16/ln χ, is 42, which is not contradicted."),
        ([(42.0, NAN, NAN)], "16/ln χ, is 42, deeper than that interval."),
        ([(12.0, 11.0, 14.0)], "16/ln χ, is 12, shallower than that interval."),
        ([(NAN, NAN, NAN)], "(95% interval 15 to 27)."),
        ([(12.0, 11.0, math.inf)], "16/ln χ, is 12, which is not contradicted."),
        ([(math.inf, math.inf, math.inf)], "16/ln χ, is unlimited, deeper than that interval."),
        (
            [(42.0, 26.0, 99.0), (math.inf, 95.0, math.inf)],
            "16/ln χ, is 42 to unlimited, deeper than the interval in 1 of 2.",
        ),
        (
            [(42.0, 37.0, 49.0), (12.0, 11.0, 14.0), (900.0, 100.0, NAN)],
            "16/ln χ, is 12 to 900, deeper than the interval in 2 of 3 and shallower than the interval in 1 of 3.",
        ),
    ],
)
def test_trainable_depth_is_compared_with_theory(rules, ending):
    depths = make_depths(*((name, 0.0, 20.0, 15.0, 27.0) for name, _ in zip("abc", rules, strict=False)))
    columns = ["rule_depth", "rule_depth_low", "rule_depth_high"]
    depths.table[columns] = rules
    assert say_how_deep(depths).endswith(ending)


def test_only_ends_that_could_contradict_are_counted():
    depths = make_depths(("a", 0.0, 20.0, 15.0, 27.0), ("b", 0.0, NAN, 15.0, NAN), ("c", 0.0, NAN, NAN, 9.0))
    depths.table["rule_depth"] = [42.0, 42.0, 12.0]
    assert say_how_deep(depths).endswith("deeper than the interval in 2 of 2.")
    depths.table["rule_depth"] = [12.0, NAN, NAN]
    assert say_how_deep(depths).endswith("16/ln χ, is 12, shallower than the interval of a with adam.")


def test_a_depth_without_an_interval_has_its_reason_and_contradicts_no_theory():
    depths = make_depths(("a", 0.0, 20.0, NAN, NAN))
    depths.table["note"] = "2 of 4 trainings failed, which is too little for an interval"
    depths.table["rule_depth"] = 42.0
    assert say_how_deep(depths).endswith(
        "at depth 20 (no interval: 2 of 4 trainings failed); the depth that theory allows, 16/ln χ, is 42 (there is no "
        "interval to compare it with)."
    )


def test_depths_without_an_interval_do_not_count_among_those_compared():
    depths = make_depths(("a", 0.0, 20.0, 15.0, 27.0), ("b", 0.0, 20.0, NAN, NAN))
    depths.table[["rule_depth", "rule_depth_low", "rule_depth_high"]] = [(42.0, 37.0, 49.0)] * 2
    assert say_how_deep(depths).endswith("16/ln χ, is 42, deeper than the interval in 1 of 1.")


def test_a_reason_is_that_of_what_is_missing():
    unbounded = make_depths(("a", 0.0, NAN, NAN, NAN), note="One seed.")
    unbounded.table["note"] = "0 of 3 trainings failed; one seed"
    assert say_how_deep(unbounded).endswith("cannot be told: 0 of 3 trainings failed; one seed.")
    several = make_depths(("a", 0.0, NAN, NAN, NAN), ("b", 0.0, NAN, NAN, NAN))
    several.table["note"] = ["0 of 4 trainings failed", "4 of 4 trainings failed"]
    assert say_how_deep(several).endswith("cannot be told: for reasons that differ, and stand in its table.")


def test_a_depth_that_dilution_does_not_move_is_not_called_a_gain():
    depths = make_depths(("a", 0.0, NAN, 90.0, NAN), ("a", 4.0, NAN, 90.0, NAN))
    assert say_what_fixes(make_best(), depths).endswith("0.40 instead of 0.90 without.")


def test_one_network_and_a_least_dilution_that_is_not_0():
    assert say_how_deep(make_depths(("a", 1.0, 20.0, 15.0, NAN))) == (
        "Half of the trainings of a with adam with the least dilution that tells (k = 1) fail (end above a training "
        "error of 0.6) at depth 20 (95%: at least 15)."
    )


def test_what_cannot_be_told_says_why():
    assert say_how_deep(make_depths(note="One depth only.")).endswith("cannot be told: one depth only.")
    assert say_what_fixes(BestDilutions(pd.DataFrame(columns=DILUTION_COLUMNS), "One level."), make_depths()).endswith(
        "cannot be told: one level."
    )


@pytest.mark.parametrize(
    ("numbers", "beginning", "odds"),
    [
        ((1.0, 0.5, 2.0), "Exploding gradients stop training", "by 10 (95% interval 3.16 to 100)"),
        ((1.0, -0.5, 2.0), "That exploding gradients stop training is not shown", "by 10 (95% interval 0.316 to 100)"),
        ((-1.0, -2.0, -0.5), "Exploding gradients are not what stops", "by 0.1 (95% interval 0.01 to 0.316)"),
        (
            (9.0, 1.0, 30.0),
            "Exploding gradients stop training",
            "by more than a million (95% interval 10 to more than a",
        ),
        ((1.0, 0.5, NAN), "Exploding gradients stop training", "by 10; given GSC"),
    ],
)
def test_odds_of_failure(numbers, beginning, odds):
    said = say_what_stops(make_tradeoff(*numbers, between=numbers[1:]))
    assert said.startswith(beginning)
    assert odds in said
    assert said.endswith("; given GSC, depth adds nothing.")


def test_an_effect_that_does_not_hold_between_networks_is_not_called_general():
    said = say_what_stops(make_tradeoff(1.0, 0.5, 2.0, between=(-0.5, 2.5)))
    assert said.startswith("Exploding gradients go with failure in these networks")
    assert "differ too much to say that it holds for others (95% interval between networks 0.316 to 316)" in said


def test_too_few_networks_show_nothing_general():
    said = say_what_stops(make_tradeoff(1.0, 0.5, 2.0, between=(NAN, NAN)))
    assert said.startswith("Exploding gradients go with failure in these networks")
    assert "; these networks do not tell whether it holds for others" in said


LOSSES = {
    "optimizer alone": 0.6,
    "depth": 0.3,
    "GSC": 0.5,
    "GSC and depth": 0.25,
    "GSC, depth and pseudo-linearity": 0.9,
}


def test_gsc_that_does_not_help_to_predict_other_networks_stops_nothing():
    said = say_what_stops(make_tradeoff(1.0, 0.5, 2.0, losses=LOSSES))
    assert said.startswith("Exploding gradients stop training")
    assert said.endswith("predicted best from GSC and depth (log loss 0.250; without GSC 0.300).")
    for odds in ((1.0, 0.5, 2.0), (-1.0, -2.0, -0.5)):
        said = say_what_stops(make_tradeoff(*odds, losses=LOSSES | {"depth": 0.2}))
        assert said.startswith("That exploding gradients stop training is not shown here: networks left out of the fit")
        assert "no better with GSC (log loss 0.250) than from depth (0.200)" in said


def test_what_pseudo_linearity_predicts_is_not_put_down_to_gsc():
    losses = LOSSES | {"GSC, depth and pseudo-linearity": 0.1}
    assert "predicted best from GSC, depth and pseudo-linearity" in say_what_stops(
        make_tradeoff(1.0, 0.5, 2.0, losses=losses)
    )
    said = say_what_stops(make_tradeoff(1.0, 0.5, 2.0, losses=losses | {"depth and pseudo-linearity": 0.1}))
    assert "no better with GSC (log loss 0.100) than from depth and pseudo-linearity (0.100)" in said


def test_that_gradients_do_not_stop_training_has_to_hold_between_networks_too():
    said = say_what_stops(make_tradeoff(-1.0, -2.0, -0.5, between=(-1.8, -0.2)))
    assert said.startswith("Exploding gradients are not what stops training here")
    said = say_what_stops(make_tradeoff(-1.0, -2.0, -0.5, between=(-2.8, 0.8)))
    assert said.startswith("That exploding gradients stop training is not shown here")


def test_only_what_is_in_the_fit_is_held_equal():
    tradeoff = make_tradeoff(1.0, 0.5, 2.0)
    assert "before training multiplies" in say_what_stops(tradeoff)
    depth = tradeoff.coefficients.assign(term="ln D")
    both = dataclasses.replace(tradeoff, coefficients=pd.concat([tradeoff.coefficients, depth], ignore_index=True))
    assert "before training, at equal depth, multiplies" in say_what_stops(both)


def test_where_nothing_fails_dilution_fixes_nothing():
    depths = dataclasses.replace(make_depths(("z", 0.0, 20.0, 15.0, 27.0)), failure_error=0.95)
    said = say_what_fixes(make_best("a"), depths)
    assert said.startswith("Dilution lowers errors, but nothing fails without it, on average: at depth 50, a with adam")


def test_one_network_of_many_that_dilution_seems_to_help_is_what_chance_would_do():
    nothing = [make_best(name, kept="0, 4", without=0.5) for name in "bcdefgh"]
    nowhere = make_depths(("z", 0.0, 20.0, 15.0, 27.0))
    said = say_what_fixes(join_best(make_best("a"), *nothing), nowhere)
    assert said.startswith("That dilution fixes it is not shown here: at depth 50, a with adam, which gains the most")
    assert said.endswith("k = 0 is excluded as the best in no more of them (1) than chance would do.")
    said = say_what_fixes(join_best(make_best("a"), make_best("i"), make_best("j"), *nothing), nowhere)
    assert said.startswith(
        "Dilution fixes it: at depth 50, a with adam, which gains the most of 3 that fail without it"
    )
    assert said.endswith(
        "0.40 instead of 0.90 without (k = 0 is excluded as the best in 3 of 10 networks and optimizers)."
    )


def test_conditions_of_a_network_are_not_more_networks_that_dilution_helps():
    """Two networks of eight are what chance would do, also where each was trained for 5 and for 10 epochs."""
    nowhere = make_depths(("z", 0.0, 20.0, 15.0, 27.0))
    once = [make_best(name, kept="4" if name in "ab" else "0, 4", without=0.5) for name in "abcdefgh"]
    said = say_what_fixes(join_best(*once), nowhere)
    assert said.startswith("That dilution fixes it is not shown here")
    twice = [
        make_best(f"{name} epochs={epochs}", kept="4" if name in "ab" else "0, 4", without=0.5)
        for name in "abcdefgh"
        for epochs in (5, 10)
    ]
    said = say_what_fixes(join_best(*twice), nowhere)
    assert said.startswith("That dilution fixes it is not shown here")
    assert "which gains the most of 16 networks, optimizers and conditions," in said
    assert said.endswith("k = 0 is excluded as the best in no more of them (4) than chance would do.")
    third = [make_best(f"i epochs={epochs}", kept="4", without=0.5) for epochs in (5, 10)]
    assert say_what_fixes(join_best(*twice, *third), nowhere).startswith("Dilution lowers errors")
    half = join_best(*twice, third[0], make_best("i epochs=10", kept="0, 4", without=0.5))
    assert say_what_fixes(half, nowhere).startswith("That dilution fixes it is not shown here")


def test_dilution_fixes_what_fails_without_it_and_not_with_it():
    depths = make_depths(("b", 0.0, 20.0, 15.0, 27.0), ("b", 4.0, 50.0, 40.0, 70.0))  # failing begins above 0.6
    said = say_what_fixes(make_best("a", error=0.84), depths)
    assert said.startswith("Dilution lowers errors, but fixes no failing: at depth 50, a with adam has its smallest")
    without_failing = make_best("a", error=0.2, without=0.55)
    said = say_what_fixes(join_best(without_failing, make_best("b", error=0.57, without=0.85)), depths)
    assert said.startswith("Dilution fixes it: at depth 50, b with adam has its smallest training error with k = 4")
    assert said.endswith(
        "0.57 instead of 0.85 without (k = 0 is excluded as the best in 2 of 2 networks and optimizers); half of its "
        "trainings fail at depth 50 (95% interval 40 to 70) with it, at depth 20 (95% interval 15 to 27) without."
    )
    not_fixed = make_best("b", error=0.7, without=0.85)
    said = say_what_fixes(join_best(without_failing, not_fixed), depths)
    assert said.startswith("Dilution lowers errors, but fixes no failing: at depth 50, b with adam")
    said = say_what_fixes(join_best(without_failing, not_fixed, make_best("c", kept="0, 4")), depths)
    assert said.startswith("Dilution lowers errors, but is not shown to fix a failing: at depth 50, b with adam")
    tied = make_best("d", best=NAN, error=0.9)
    said = say_what_fixes(join_best(without_failing, make_best("b", error=0.2, without=0.5), tied), depths)
    assert said.startswith("Dilution lowers errors, but fixes no failing: at depth 50, a with adam")
    unsure = make_best("c", without=0.9, kept="0, 4")
    said = say_what_fixes(join_best(without_failing, make_best("b", error=0.2, without=0.5), unsure), depths)
    assert said.startswith(
        "Dilution lowers errors, but is not shown to fix a failing: at depth 50, a with adam, which "
    )
    assert "gains the most of 2 that gain beyond chance" in said


def test_a_depth_without_a_training_without_dilution_says_so():
    nowhere = make_depths(("z", 0.0, 20.0, 15.0, 27.0))
    said = say_what_fixes(join_best(make_best(), make_best(depth=100, error=0.4, without=NAN)), nowhere)
    assert "at depth 50 (at depth 100 there is no error with k = 0 to compare with), a with adam" in said


def test_where_nothing_trains_at_the_greatest_depth_a_lesser_one_is_spoken_of():
    nowhere = make_depths(("z", 0.0, 20.0, 15.0, 27.0))
    said = say_what_fixes(join_best(make_best(), make_best(depth=400, error=0.88, kept="0, 2, 4")), nowhere)
    assert said.startswith("Dilution fixes it: at depth 50 (at depth 400 every level fails, on average), a with adam")
    said = say_what_fixes(make_best(depth=400, error=0.88, kept="0, 2, 4"), nowhere)
    assert said.startswith("That dilution fixes it is not shown here: at depth 400, a with adam")


def test_small_gains_and_depths_at_which_nothing_helps_are_told():
    nowhere = make_depths(("z", 0.0, 20.0, 15.0, 27.0))
    deeper = make_best(depth=100, best=NAN, error=0.9)
    said = say_what_fixes(join_best(make_best(error=0.896, without=0.9), deeper), nowhere)
    assert "at depth 50 (at depth 100 no level has a smaller error than others)" in said
    assert said.endswith("0.896 instead of 0.900 without.")


def test_what_dilution_does():
    depths = make_depths(("a", 0.0, 20.0, 15.0, 27.0), ("a", 4.0, NAN, 90.0, NAN))
    said = say_what_fixes(make_best(), depths)
    assert said.startswith(
        "Dilution fixes it: at depth 50, a with adam has its smallest training error with k = 4 (95%:"
    )
    assert "0.40 instead of 0.90 without" in said
    assert said.endswith("fail only beyond depth 90 (95% bound) with it, at depth 20 (95% interval 15 to 27) without.")
    assert say_what_fixes(make_best(kept="0, 4"), depths).startswith("That dilution fixes it is not shown")
    assert say_what_fixes(make_best(best=0.0, error=0.9, kept="0"), depths).startswith("No dilution that was tried")


def test_networks_that_fail_without_exploding_are_named():
    depths = make_depths(*((name, 0.0, 20.0, 15.0, 27.0) for name in "abc"))
    depths.table["rule_depth"] = 200.0
    depths.table["critical_log10_gsc_high"] = [0.2, 0.29, 0.31]
    said = say_how_deep(depths)
    exception = " (where half of a and b fail, GSC is below 2: something else than exploding gradients stops them)."
    assert said.endswith(f"deeper than the interval in 3 of 3{exception}")
    alone = say_how_deep(dataclasses.replace(depths, table=depths.table[:1]))
    assert "deeper than that interval (where half of a fail" in alone


def test_a_network_under_several_conditions_is_named_once_among_those_that_hardly_explode():
    depths = make_depths(*((f"{name} epochs={epochs}", 0.0, 20.0, 15.0, 27.0) for name in "ab" for epochs in (5, 10)))
    depths.table["rule_depth"] = 200.0
    depths.table["critical_log10_gsc_high"] = [0.2, 0.2, 0.2, 0.31]
    said = say_how_deep(depths)
    assert "for all 4 networks, optimizers and conditions; the depth that theory allows" in said
    assert "in 4 of 4 (where half of a fail, GSC is below 2" in said


def test_an_effect_of_any_size_is_no_number():
    said = say_what_stops(make_tradeoff(-4.9, -9.0, 8.0))
    assert "may raise or lower the odds of failure by any factor" in said
    assert "million" not in said
