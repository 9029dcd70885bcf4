"""Trials of a sampled space → PED-ANOVA importances of reaching the best of them, with bootstrap intervals.

Source: Watanabe, Bansal and Hutter 2023, "PED-ANOVA: efficiently quantifying hyperparameter importance in arbitrary
subspaces"; the estimator is Optuna's. It compares how parameters are spread among the best trials and among all.
"""

import warnings

import numpy as np
import pandas as pd

BEST_SHARE, FEWEST_BEST = 0.1, 5
FEWEST_TRIALS = 20
LOG_RATIO = 30.0
"""A positive parameter whose values span this factor is taken on a logarithmic scale."""


def rank_parameters(
    parameters: pd.DataFrame, errors: np.ndarray, networks: np.ndarray, replicates: int, seed: int = 0
) -> pd.DataFrame:
    """Return term, share, low, high and chance per column of `parameters` [trials], for errors [trials] to be small.

    Shares add up to 1; bounds are 95% percentiles over networks drawn with replacement, each with all its trials:
    `networks` [trials] counts them from 0. Shares are never negative and depend on a parameter's values, too, so that
    bounds do not tell whether it matters; `chance` is the 95% percentile of its share where networks have each other's
    errors. Raises ValueError with fewer than FEWEST_TRIALS networks.
    """
    members = [np.flatnonzero(networks == number) for number in range(networks.max() + 1)]
    if len(members) < FEWEST_TRIALS:
        raise ValueError(f"trials: {len(members)} different ones ended, and PED-ANOVA takes {FEWEST_TRIALS}; run more")
    trials = _make_trials(parameters, errors)
    generator = np.random.default_rng(seed)
    center = _evaluate(trials, list(parameters))
    draws = [generator.integers(len(members), size=len(members)) for _ in range(replicates)]
    drawn = np.array(
        [
            _evaluate([trials[place] for number in numbers for place in members[number]], list(parameters))
            for numbers in draws
        ]
    )
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    places, shuffled = np.concatenate(members), np.empty((replicates, len(parameters.columns)))
    for draw in shuffled:
        exchanged = np.empty(len(errors))
        exchanged[places] = errors[np.concatenate([members[number] for number in generator.permutation(len(members))])]
        draw[:] = _evaluate(_make_trials(parameters, exchanged), list(parameters))
    chance = np.quantile(shuffled, 0.95, axis=0)
    return pd.DataFrame({"term": list(parameters), "share": center, "low": low, "high": high, "chance": chance})


def _make_trials(parameters: pd.DataFrame, errors: np.ndarray) -> list:
    import optuna  # late: it takes a second

    distributions = {name: _distribution(parameters[name]) for name in parameters}
    rows = parameters.astype(object).to_dict("records")
    return [
        optuna.trial.create_trial(params=row, distributions=distributions, value=float(error))
        for row, error in zip(rows, errors, strict=True)
    ]


def _distribution(values: pd.Series):  # type: ignore[no-untyped-def]
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    if not pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values):
        return CategoricalDistribution(sorted(values.unique().tolist()))
    low, high = float(values.min()), float(values.max())
    return FloatDistribution(low, high, log=low > 0 and high / low > LOG_RATIO)


def _evaluate(trials: list, names: list[str]) -> np.ndarray:
    """Return importances that add up to 1 (all 0 where the best are spread like all others)."""
    import optuna

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        study = optuna.create_study()
        study.add_trials(trials)
        evaluator = optuna.importance.PedAnovaImportanceEvaluator(
            target_quantile=min(0.5, max(BEST_SHARE, FEWEST_BEST / len(trials)))
        )
        with warnings.catch_warnings():
            # Many trials may share the best error (0, or chance): then there is nothing to tell apart, and it is 0.
            warnings.simplefilter("ignore")
            found = evaluator.evaluate(study, params=names)
    finally:
        optuna.logging.set_verbosity(verbosity)
    values = np.array([found[name] for name in names])
    return values / values.sum() if values.sum() > 0 else values
