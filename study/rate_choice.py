"""Final errors at several learning rates and seeds, some of them missing → what may be compared with what.

A run that is missing should decide as little as it can. Candidates are the rates with at least half as many seeds as
the rate with the most, so that a rate of few seeds does not win by luck, nor one that lacks a seed lose by it. They are
compared on the seeds that all of them have; where there is no such seed, each on its own. (So a rate that is a
candidate with half of the seeds takes the others out of the comparison, however bad it is.)
Check: errors 0.3, 0.3, none at one rate and 0.2, 0.4, 0.9 at another: they are equally good.
"""

import numpy as np

DECIMALS = 12
"""By which errors are compared: sums in another order must not make equally good rates differ."""


def find_comparable(known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return which rates are candidates [rates], and on which seeds [seeds] they are compared.

    `known` [rates, seeds] says where there is a run.
    """
    counts = known.sum(axis=1)
    rates = 2 * counts >= counts.max()
    shared = known[rates].all(axis=0)
    return rates, shared if shared.any() else np.ones_like(shared)


def rank_rates(errors: np.ndarray) -> np.ndarray:
    """Return the mean error [rates] by which rates are compared, infinite for those that are not.

    `errors` [rates, seeds] is nan where there is no run.
    """
    known = np.isfinite(errors)
    rates, seeds = find_comparable(known)
    used = known & rates[:, None] & seeds
    counts = used.sum(axis=1)
    means = np.where(used, errors, 0.0).sum(axis=1) / np.maximum(counts, 1)
    return np.where(counts > 0, np.round(means, DECIMALS), np.inf)
