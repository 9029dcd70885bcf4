"""Values over a full factorial space → shares of their variance: main effects, two-way terms, what is left, seeds.

Every cell of the space weighs the same. With Y the mean over seeds per cell and E over all cells but those of u,
    V_i = Var(E[Y | i])    V_ij = Var(E[Y | i, j]) − V_i − V_j    V_higher = Var(Y) − Σ V_i − Σ V_ij
and the seeds' share is the mean variance s² within cells. Noise adds (degrees of freedom of the term)/(cells) · s²/n
to each V on average, also where s² differs from cell to cell; that is taken off.
Sources: Fisher's analysis of variance; Hutter et al. 2014, "An efficient approach for assessing hyperparameter
importance" (shares of variance over a whole space).
Check: Y = i + j over i, j ∈ {0, 1} has V_i = V_j = ¼ and shares ½, ½.
"""

import dataclasses
import itertools

import numpy as np

HIGHER, SEEDS = "higher orders", "seeds"


@dataclasses.dataclass(frozen=True)
class Shares:
    """Shares of variance with 95% bootstrap bounds (nan with one seed).

    They add up to 1, or to a little more where noise made a term negative, which is given as 0.

    `order` is 1 for main effects, 2 for two-way terms, 3 for all that is higher, 0 for the seeds.
    """

    terms: list[str]
    order: list[int]
    share: np.ndarray
    low: np.ndarray
    high: np.ndarray


def split_variance(
    names: list[str], means: np.ndarray, variances: np.ndarray, seeds: np.ndarray, replicates: int, seed: int = 0
) -> Shares | None:
    """Split the variance of cell means [levels of factor 1, levels of factor 2, …]; None if nothing varies.

    Args:
        names: of the factors.
        means: over seeds.
        variances: over seeds, within each cell; nan for a single seed.
        seeds: how many, per cell.
        replicates: bootstrap samples: every mean is drawn anew with the error that its own cell shows.
        seed: of the bootstrap.
    """
    known = np.isfinite(variances)
    noisy = bool(known.any())
    within = np.where(known, variances, variances[known].mean() if noisy else 0.0)
    error = within / seeds
    terms, order, freedom = _list_terms(names, means.shape)
    noise = freedom / means.size * error.mean()
    center = np.append(_components(means[None])[0] - noise, within.mean())
    if np.maximum(center, 0).sum() < 1e-15:
        return None
    generator = np.random.default_rng(seed)
    draws = means + np.sqrt(error) * generator.standard_normal((replicates, *means.shape))
    misjudged = _draw_misjudgement(variances, seeds, replicates, generator)
    # The means hold noise already; drawing adds as much again, and what is taken off for it may be misjudged.
    drawn = np.column_stack([_components(draws) - noise - np.outer(misjudged, noise), misjudged * within.mean()])
    low, high = np.quantile(_normalize(drawn), [0.025, 0.975], axis=0)
    unknown = np.full(len(center), np.nan)
    return Shares(
        [*terms, SEEDS], [*order, 0], _normalize(center), low if noisy else unknown, high if noisy else unknown
    )


def _draw_misjudgement(
    variances: np.ndarray, seeds: np.ndarray, replicates: int, generator: np.random.Generator
) -> np.ndarray:
    """Return factors [replicates] by which the mean variance within cells may be off, by Satterthwaite's χ²."""
    known = np.isfinite(variances) & (seeds > 1)
    fourth = (variances[known] ** 2 / (seeds[known] - 1)).sum()
    if fourth <= 0:
        return np.ones(replicates)
    # With n seeds, E s⁴ is (n + 1)/(n − 1) times σ⁴.
    fourth *= float(np.mean((seeds[known] - 1) / (seeds[known] + 1)))
    freedom = variances[known].sum() ** 2 / fourth
    return generator.chisquare(freedom, replicates) / freedom


def _normalize(components: np.ndarray) -> np.ndarray:
    """Return shares; a component that noise made negative is 0.

    The whole holds negative components, too: without them it would be too great, and every share too small.
    """
    whole = np.maximum(components.sum(axis=-1, keepdims=True), np.finfo(float).tiny)
    return np.clip(components / whole, 0.0, 1.0)


def _list_terms(names: list[str], levels: tuple[int, ...]) -> tuple[list[str], list[int], np.ndarray]:
    """Return the terms but the seeds, their orders, and their degrees of freedom."""
    pairs = list(itertools.combinations(range(len(names)), 2))
    freedom = [count - 1 for count in levels] + [(levels[i] - 1) * (levels[j] - 1) for i, j in pairs]
    terms = [*names, *(f"{names[i]} × {names[j]}" for i, j in pairs)]
    order = [1] * len(names) + [2] * len(pairs)
    if len(names) > 2:
        terms, order = [*terms, HIGHER], [*order, 3]
        freedom.append(int(np.prod(levels)) - 1 - sum(freedom))
    return terms, order, np.array(freedom, dtype=float)


def _components(means: np.ndarray) -> np.ndarray:
    """Return V of main effects, two-way terms and (from three factors on) higher orders, [replicates, terms]."""
    factors = means.ndim - 1
    axes = range(1, factors + 1)

    def spread(kept: tuple[int, ...]) -> np.ndarray:
        marginal = means.mean(axis=tuple(axis for axis in axes if axis not in kept)) if len(kept) < factors else means
        return marginal.reshape(len(means), -1).var(axis=1)

    main = {axis: spread((axis,)) for axis in axes}
    pairs = [spread(pair) - main[pair[0]] - main[pair[1]] for pair in itertools.combinations(axes, 2)]
    parts = [*main.values(), *pairs]
    if factors > 2:
        parts.append(spread(tuple(axes)) - sum(parts))
    return np.stack(parts, axis=1)
