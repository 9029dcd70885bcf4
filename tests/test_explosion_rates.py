"""Rates of simulated networks: exact without noise, with intervals that cover with it."""

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest

from analysis.explosion_rates import estimate_explosion_rates, estimate_rate, measure_growth
from analysis.rate_figures import plot_rates_over_epochs
from study.mean_field import squared_growth_by_layer
from tests.simulated_studies import Truth, make_empty, rate_at, simulate_study

NOISE = {"seed_spread": 0.004, "layer_noise": 0.05, "autocorrelation": 0.6, "probe_noise": 0.02}


def cover(repetitions: int, **truth) -> float:
    """Share of repetitions (each a width of its own) whose interval holds the true rate."""
    study = simulate_study(Truth(widths=tuple(range(2, 2 + repetitions)), **NOISE, **truth))
    table = estimate_explosion_rates(study).table
    assert len(table) == repetitions
    return float(((table["low"] < 1.2) & (table["high"] > 1.2)).mean())


def test_rates_are_exact_without_noise_at_every_epoch():
    study = simulate_study(Truth(dilutions=(0.0, 1.0, 2.0), depths=(4, 30), epochs=(0.0, 1.0), trained_factor=0.5))
    table = estimate_explosion_rates(study, None).table
    assert len(table) == 6
    for row in table.itertuples():
        true = rate_at(1.2, row.dilution) ** (0.5**row.epoch)
        assert (row.explosion_rate, row.low, row.high) == pytest.approx((true, true, true), rel=1e-12)
        assert row.optimizer == ("adam" if row.epoch else "")


def test_intervals_cover():
    assert 0.92 <= cover(300, depths=(12,)) <= 0.98


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [2, 4, 10])
def test_intervals_cover_in_a_thousand_repetitions(seeds):
    share = cover(1000, depths=(10, 40), seeds=seeds)
    print(f"rates, {seeds} seeds: {share:.1%} of 1,000")
    assert 0.92 <= share <= 0.98


def test_the_late_half_leaves_a_transient_out():
    study = simulate_study(Truth(depths=(40,)))
    early = study.layers["layer"] < 10
    study.layers.loc[early, "log10_gsc"] += 5.0
    assert estimate_explosion_rates(study, late_half=True).table["explosion_rate"].item() == pytest.approx(1.2)
    assert measure_growth(study, late_half=True)["layers"].tolist() == [19] * 4


def test_theory_of_the_late_half_is_of_those_layers():
    growth = measure_growth(simulate_study(Truth(depths=(40,))), late_half=True)
    predicted = 0.5 * np.log(squared_growth_by_layer(40, "relu", "batch", batch_size=128))[19:].sum()
    assert growth["ln_predicted"].tolist() == pytest.approx([predicted] * 4)


def test_distance_from_theory_is_in_standard_errors():
    (row,) = estimate_explosion_rates(simulate_study(Truth(depths=(40,), **NOISE))).table.itertuples()
    half = (math.log(row.high) - math.log(row.low)) / 2 / 3.18245  # t with 3 degrees of freedom
    assert row.errors_from_mean_field == pytest.approx(math.log(row.explosion_rate / row.mean_field) / half, rel=1e-4)


def test_theory_is_weighted_like_the_measurement():
    study = simulate_study(Truth(depths=(4, 100), seeds=8))
    kept = study.trials[(study.trials["depth"] == 4) == (study.trials["seed"] < 4)]  # shallow seeds, deep seeds
    theory = {depth: squared_growth_by_layer(depth, "relu", "batch", batch_size=128) for depth in (4, 100)}
    layers = study.layers.merge(kept[["run_id", "depth"]], on="run_id")
    layers["log10_gsc"] = [  # exactly as theory has it
        0.5 * np.log10(theory[row.depth][max(int(row.layer) - 1, 0) :]).sum() for row in layers.itertuples()
    ]
    exact = dataclasses.replace(study, trials=kept, layers=layers.drop(columns="depth"))
    (row,) = estimate_explosion_rates(exact).table.itertuples()
    assert row.explosion_rate == pytest.approx(row.mean_field, rel=1e-9)


def test_an_activation_of_a_later_version_has_no_theory():
    study = simulate_study(Truth(depths=(40,)))
    study.trials["activation"] = "mish"
    (row,) = estimate_explosion_rates(study).table.itertuples()
    assert math.isnan(row.mean_field)
    assert "theory has no number here" in row.note


def test_after_training_the_best_learning_rate_counts():
    study = simulate_study(Truth(learning_rates=(1e-3, 1e-2), epochs=(0.0, 1.0), depths=(10,)))
    worse = study.trials.loc[study.trials["learning_rate"] == 1e-2, "run_id"]
    study.layers.loc[study.layers["run_id"].isin(worse) & (study.layers["epoch"] == 1), "log10_gsc"] *= 3
    table = estimate_explosion_rates(study, (1.0,)).table
    assert table["explosion_rate"].item() == pytest.approx(1.2)


def test_networks_that_differ_in_training_alone_are_one_before_it_and_two_after_it():
    study = simulate_study(Truth(epochs=(0.0, 1.0), depths=(10,)))
    frames = {}
    for decay, factor in ((0.0, 1.0), (0.1, 2.0)):
        trials = study.trials.assign(weight_decay=decay, network=f"batch-relu weight_decay={decay:g}")
        layers = study.layers.assign(run_id=study.layers["run_id"] + f" {decay}")
        layers.loc[layers["epoch"] == 1, "log10_gsc"] *= factor
        frames[decay] = trials.assign(run_id=trials["run_id"] + f" {decay}"), layers
    trials, layers = (pd.concat(parts, ignore_index=True) for parts in zip(*frames.values(), strict=True))
    table = estimate_explosion_rates(dataclasses.replace(study, trials=trials, layers=layers), None).table
    assert table["network"].tolist() == ["batch-relu", "batch-relu weight_decay=0", "batch-relu weight_decay=0.1"]
    assert table["explosion_rate"].tolist() == pytest.approx([1.2, 1.2, 1.44])
    # One more network of the same architecture, measured on another batch, is not where these begin.
    other = table.iloc[[0]].assign(network="batch-relu probe_size=16", explosion_rate=9.0)
    drawn = plot_rates_over_epochs(pd.concat([table, other], ignore_index=True))
    assert [panel.lines[-1].get_ydata().tolist() for panel in drawn.axes] == [
        pytest.approx([1.2, 1.2]),
        pytest.approx([1.2, 1.44]),
    ]


@pytest.mark.parametrize(
    ("values", "note"),
    [([], "two stream states"), ([math.nan], "two stream states"), ([0.1], "one seed"), ([0.1, math.nan], "one seed")],
)
def test_what_is_unknown_is_said(values, note):
    estimate = estimate_rate(np.array(values))
    assert note in estimate.note
    assert estimate.low is None
    assert estimate.is_known == (0.1 in values)


def test_an_interval_beyond_all_numbers_is_open():
    estimate = estimate_rate(np.array([1.0, 400.0]))
    assert estimate.value == pytest.approx(math.exp(200.5))
    assert (estimate.high, estimate.note) == (None, "the interval ends beyond all numbers")


def test_studies_without_rates_say_why():
    for study in (simulate_study(Truth(depths=(2,))), make_empty(simulate_study(Truth()))):
        result = estimate_explosion_rates(study)
        assert result.table.empty
        assert "no network of 3 layers or more" in result.note
