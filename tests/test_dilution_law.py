"""The law is found where it holds, and its breach where it does not."""

import dataclasses

import numpy as np
import pytest

from analysis.dilution_law import _judge, check_dilution_law, check_law
from analysis.tidy_frames import name_groups
from tests.simulated_studies import Truth, simulate_study

DILUTED = Truth(dilutions=(0.0, 1.0, 2.0), depths=(20, 80))


def test_the_law_is_exact_without_noise():
    law = check_dilution_law(simulate_study(DILUTED))
    assert law.table["growth"].tolist() == pytest.approx(law.table["predicted_growth"].tolist())
    assert law.table["growth"].tolist() == pytest.approx([1.44, 1.22, 1.088])
    assert set(law.table["depth"]) == {80}
    assert "not contradicted" in law.verdicts["batch-relu"]


def test_a_breach_is_found():
    study = simulate_study(dataclasses.replace(DILUTED, seed_spread=0.002, layer_noise=0.01))
    diluted = study.trials.loc[study.trials["dilution"] == 2.0, "run_id"]
    study.layers.loc[study.layers["run_id"].isin(diluted), "log10_gsc"] *= 1.5
    assert "does not hold at k = 2" in check_dilution_law(study).verdicts["batch-relu"]


def test_a_true_law_is_rarely_contradicted():
    """The test is nominally 5%; paired t tests of normal noise, 1,000 repetitions: s.d. 0.7%."""
    generator, rejected = np.random.default_rng(0), 0
    for _ in range(1000):
        scaled = 0.44 + 0.02 * generator.standard_normal((5, 3))
        table = check_law(np.array([0.0, 1.0, 2.0]), 1 + scaled / np.array([1.0, 2.0, 5.0]))
        rejected += table["p_value"].min() < 0.05
    assert 0.02 <= rejected / 1000 <= 0.08


def test_one_seed_is_not_tested():
    law = check_dilution_law(simulate_study(dataclasses.replace(DILUTED, seeds=1)))
    assert "not tested" in law.verdicts["batch-relu"]
    assert law.table["p_value"].isna().all()
    assert "it takes two" in law.table["note"].iloc[1]


def test_one_level_says_why():
    law = check_dilution_law(simulate_study(Truth()))
    assert law.table.empty
    assert "two dilution levels" in law.note


def test_the_prediction_is_of_the_seeds_that_the_test_is_of():
    growth = np.array([[1.50, 1.22], [1.52, 1.231], [1.51, 1.225], [1.10, np.nan], [1.12, np.nan]])
    table = check_law(np.array([0.0, 1.0]), growth)
    assert table["predicted_growth"][1] == pytest.approx(1 + 0.51 / 2)
    assert table["excess"][1] == pytest.approx(2 * (table["growth"][1] - table["predicted_growth"][1]))
    lower = np.array([[1.5, 1.26], [1.52, 1.272], [np.nan, 1.1], [np.nan, 1.1], [1.51, 1.266]])
    assert "χ of the seeds that have both levels is 1.2660 and the law says 1.2550" in _judge(
        check_law(np.array([0.0, 1.0]), lower)
    )
    apart = check_law(np.array([0.0, 1.0]), np.array([[1.5, np.nan], [np.nan, 1.2]]))
    assert apart["predicted_growth"][1] == pytest.approx(1.25)


def test_networks_that_differ_between_optimizers_alone_are_two():
    study = simulate_study(
        dataclasses.replace(DILUTED, optimizers=("adam", "sgd"), widths=(100, 400), seed_spread=0.002)
    )
    kept = (study.trials["optimizer"] == "adam") == (study.trials["width"] == 100)
    study = dataclasses.replace(study, trials=name_groups(study.trials[kept]))
    assert set(study.trials["architecture"]) == {"batch-relu width=100", "batch-relu width=400"}
    broken = study.trials.loc[(study.trials["width"] == 100) & (study.trials["dilution"] == 2.0), "run_id"]
    study.layers.loc[study.layers["run_id"].isin(broken), "log10_gsc"] *= 1.5
    verdicts = check_dilution_law(study).verdicts
    assert "does not hold" in verdicts["batch-relu width=100"]
    assert "not contradicted" in verdicts["batch-relu width=400"]


def test_a_level_that_has_not_reached_its_stationary_state_is_not_tested():
    levels = np.array([0.0, 1.0, 4.0])
    growth = 1 + np.array([[0.44, 0.22, 0.01], [0.45, 0.23, 0.01]])  # the last far from the law
    table = check_law(levels, growth, layers_before=2 * 17)
    assert table["p_value"].notna().tolist() == [False, True, True]
    assert "does not hold at k = 4" in _judge(table)
    table = check_law(levels, growth, layers_before=2 * 17 - 1)
    assert table["p_value"].notna().tolist() == [False, True, False]
    assert "not contradicted at k up to 1" in _judge(table)
    assert table["note"][2] == "no test: the stationary state takes 34 layers, more than there are before"


def test_levels_that_share_no_depth_leave_the_others_to_be_tested():
    study = simulate_study(Truth(dilutions=(0.0, 1.0, 2.0), depths=(20, 80)))
    at, k = study.trials["depth"], study.trials["dilution"]
    kept = dataclasses.replace(study, trials=study.trials[((k == 0) | (k == 1)) | (at == 20)])
    assert set(check_dilution_law(kept).table["depth"]) == {20}
    kept = dataclasses.replace(study, trials=study.trials[(k == 0) | ((k == 1) & (at == 80)) | ((k == 2) & (at == 20))])
    law = check_dilution_law(kept)
    assert set(law.table["depth"]) == {80}
    deep = simulate_study(Truth(dilutions=(0.0, 1.0, 2.0, 4.0), depths=(10, 80)))
    at, k = deep.trials["depth"], deep.trials["dilution"]
    law = check_dilution_law(dataclasses.replace(deep, trials=deep.trials[(at == 10) | (k < 4)]))
    assert set(law.table["depth"]) == {80}  # where three levels have reached their stationary state
    at, k = study.trials["depth"], study.trials["dilution"]
    apart = dataclasses.replace(study, trials=study.trials[((k == 0) & (at == 80)) | ((k == 2) & (at == 20))])
    law = check_dilution_law(apart)
    assert law.table.empty
    assert law.verdicts["batch-relu"] == "The law is not tested: no depth has two dilution levels."
