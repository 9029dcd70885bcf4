"""Every estimator on degenerate studies: a sentence where there is no number, and never a traceback or nan."""

import dataclasses
import functools
import re

import pandas as pd
import pytest

from analysis.best_dilution import estimate_best_dilutions
from analysis.depth_rules import compare_depth_rules
from analysis.dilution_law import check_dilution_law
from analysis.explosion_rates import estimate_explosion_rates
from analysis.growth_forms import compare_growth_forms
from analysis.importance import estimate_importance
from analysis.pareto import estimate_pareto_front
from analysis.tradeoff import fit_tradeoff
from analysis.trainable_depth import estimate_trainable_depths
from tests.simulated_studies import Truth, make_empty, repeat_trials, simulate_study

BASE = Truth(
    rates={("batch", "relu"): 1.2, ("layer", "tanh"): 1.08},
    depths=(4, 20, 100),
    dilutions=(0.0, 2.0),
    learning_rates=(1e-3, 1e-2),
    seeds=2,
    layer_noise=0.02,
    error_noise=0.01,
    trainable_depth=30.0,
)
ESTIMATORS = {
    # What is estimated: the function, and in its main table the number that must have a note when it is missing.
    "rates": (estimate_explosion_rates, "table", "explosion_rate"),
    "forms": (compare_growth_forms, "table", "exponential_error"),
    "law": (check_dilution_law, "table", "p_value"),
    "depths": (estimate_trainable_depths, "table", "d50"),
    "rules": (compare_depth_rules, "table", "held_out_log_loss"),
    "trade-off": (fit_tradeoff, "coefficients", "coefficient"),
    "critical GSC": (fit_tradeoff, "critical", "critical_log10_gsc"),
    "scores": (fit_tradeoff, "scores", "log_loss"),
    "dilutions": (estimate_best_dilutions, "table", "best_dilution"),
    "front": (estimate_pareto_front, "table", "membership"),
    "importance": (estimate_importance, "table", "share"),
}


def change(study, **columns):
    return dataclasses.replace(study, trials=study.trials.assign(**columns))


def without_measurements(study):
    """Every trial ended, and neither GSC nor linearity was measured."""
    study = change(study, initial_log10_gsc=float("nan"), final_log10_gsc=float("nan"))
    return dataclasses.replace(study, layers=study.layers.iloc[:0], epochs=study.epochs.iloc[:0])


STUDIES = {
    "as it should be": simulate_study(BASE),
    "one seed": simulate_study(dataclasses.replace(BASE, seeds=1)),
    "one depth": simulate_study(dataclasses.replace(BASE, depths=(20,))),
    "one network": simulate_study(dataclasses.replace(BASE, rates={("batch", "relu"): 1.2})),
    "two conditions": repeat_trials(simulate_study(BASE), epochs=5),
    "one network under two conditions": repeat_trials(
        simulate_study(dataclasses.replace(BASE, rates={("batch", "relu"): 1.2})), precision="bf16"
    ),
    "one dilution": simulate_study(dataclasses.replace(BASE, dilutions=(0.0,))),
    "too shallow": simulate_study(dataclasses.replace(BASE, depths=(2, 3))),
    "all fail": simulate_study(dataclasses.replace(BASE, trainable_depth=1.0)),
    "none fails": simulate_study(dataclasses.replace(BASE, trainable_depth=1e6)),
    "nothing varies": simulate_study(dataclasses.replace(BASE, layer_noise=0.0, error_noise=0.0, trainable_depth=1e6)),
    "one trial": simulate_study(
        dataclasses.replace(
            BASE, seeds=1, depths=(20,), rates={("none", "relu"): 1.0}, dilutions=(0.0,), learning_rates=(1e-3,)
        )
    ),
    "empty": make_empty(simulate_study(BASE)),
    "all diverged": change(simulate_study(BASE), status="diverged", final_train_error=0.9),
    "none ended": change(simulate_study(BASE), status="unfinished", final_train_error=float("nan")),
    "nothing measured": without_measurements(simulate_study(BASE)),
}


def sentences(value):
    """All texts in a result, and the texts that its estimates write."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, pd.DataFrame):
        for column in value.columns:
            yield from (cell for cell in value[column] if isinstance(cell, str))
    elif isinstance(value, dict):
        for part in value.values():
            yield from sentences(part)
    elif dataclasses.is_dataclass(value):
        if hasattr(value, "write"):
            yield value.write()
        for field in dataclasses.fields(value):
            yield from sentences(getattr(value, field.name))


@functools.cache
def estimate(name, function):
    return function(STUDIES[name])


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("name", STUDIES)
def test_no_number_without_a_reason(name, estimator):
    function, table_name, number = ESTIMATORS[estimator]
    result = estimate(name, function)
    table = getattr(result, table_name)
    if table.empty:
        assert result.note.endswith("."), "an empty table is explained by a sentence"
    for row in table.to_dict("records"):
        assert pd.notna(row[number]) or row["note"], row
    for text in sentences(result):
        assert not re.search(r"\b(nan|inf|None)\b", text), text


def test_the_study_as_it_should_be_has_every_number():
    for function, table_name, number in ESTIMATORS.values():
        table = getattr(estimate("as it should be", function), table_name)
        assert table[number].notna().mean() >= 0.5, function.__name__
