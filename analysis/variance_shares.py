"""Values over a full factorial space → shares of their variance: main effects, two-way terms, what is left, seeds.

Every cell of the space weighs the same. With Y the mean over seeds per cell and E over all cells but those of u,
    V_i = Var(E[Y | i])    V_ij = Var(E[Y | i, j]) − V_i − V_j    V_higher = Var(Y) − Σ V_i − Σ V_ij
and the seeds' share is the mean variance s² within cells. Noise adds (degrees of freedom of the term)/(cells) · s²/n
to each V on average, also where s² differs from cell to cell; that is taken off.
Some factors are conditions under which the same networks were trained again (`Plots`), m to a network. Their cells
share the luck of a seed: plots are networks, and split by conditions. Over a network's conditions the mean has a
variance b² over seeds, and what is left is s_c² = (s² − b²)·m/(m − 1). Noise is then b² in terms without a condition,
whose cells are networks, and s_c² in those with one.
Sources: Fisher's analysis of variance, Yates 1935, "Complex experiments" (split plots); Hutter et al. 2014, "An
efficient approach for assessing hyperparameter importance" (shares of variance over a whole space).
Check: Y = i + j over i, j ∈ {0, 1} has V_i = V_j = ¼ and shares ½, ½.
"""

import dataclasses
import itertools
import math

import numpy as np

HIGHER, SEEDS = "higher orders", "seeds"


@dataclasses.dataclass(frozen=True)
class Plots:
    """Networks: `variances` over seeds of their means over conditions, and how many seeds; [1 level of conditions]."""

    variances: np.ndarray
    seeds: np.ndarray


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
    names: list[str],
    means: np.ndarray,
    variances: np.ndarray,
    seeds: np.ndarray,
    replicates: int,
    seed: int = 0,
    plots: Plots | None = None,
) -> Shares | None:
    """Split the variance of cell means [levels of factor 1, levels of factor 2, …]; None if nothing varies.

    Args:
        names: of the factors.
        means: over seeds.
        variances: over seeds, within each cell; nan for a single seed.
        seeds: how many, per cell.
        replicates: bootstrap samples: every mean is drawn anew with the error that its own cell shows.
        seed: of the bootstrap.
        plots: where factors are conditions; without, every cell is a plot.
    """
    plots = plots or Plots(variances, seeds)
    noisy = bool(np.isfinite(variances).any())
    within, between = _fill(variances), _fill(plots.variances)
    conditions = tuple(axis for axis in range(means.ndim) if between.shape[axis] < means.shape[axis])
    split = _split_within(within, between, conditions)
    error, split_error = between / plots.seeds, split / seeds
    terms, order, freedom, split_freedom = _list_terms(names, means.shape, conditions)
    noise = freedom / between.size * error.mean() + split_freedom / means.size * split_error.mean()
    center = np.append(_components(means[None])[0] - noise, within.mean())
    if np.maximum(center, 0).sum() < 1e-15:
        return None
    generator = np.random.default_rng(seed)
    draws = means + np.sqrt(error) * generator.standard_normal((replicates, *between.shape))
    if conditions:
        within_plots = np.sqrt(split_error) * generator.standard_normal((replicates, *means.shape))
        draws += within_plots - within_plots.mean(axis=tuple(axis + 1 for axis in conditions), keepdims=True)
    misjudged = _draw_misjudgement(plots.variances, plots.seeds, replicates, generator)
    # The means hold noise already; drawing adds as much again, and what is taken off for it may be misjudged.
    drawn = np.column_stack([_components(draws) - noise - np.outer(misjudged, noise), misjudged * within.mean()])
    low, high = np.quantile(_normalize(drawn), [0.025, 0.975], axis=0)
    unknown = np.full(len(center), np.nan)
    return Shares(
        [*terms, SEEDS], [*order, 0], _normalize(center), low if noisy else unknown, high if noisy else unknown
    )


def _fill(variances: np.ndarray) -> np.ndarray:
    """Return variances with their mean where one seed shows none."""
    known = np.isfinite(variances)
    return np.where(known, variances, variances[known].mean() if known.any() else 0.0)


def _split_within(within: np.ndarray, between: np.ndarray, conditions: tuple[int, ...]) -> np.ndarray:
    """Return s_c² of every plot, from s² of its cells and b²."""
    if not conditions:
        return np.zeros_like(between)
    count = within.size / between.size
    left = within.mean(axis=conditions, keepdims=True) - between
    return np.maximum(left, 0.0) * count / (count - 1)


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


def _list_terms(
    names: list[str], levels: tuple[int, ...], conditions: tuple[int, ...]
) -> tuple[list[str], list[int], np.ndarray, np.ndarray]:
    """Return the terms but the seeds, their orders, and their degrees of freedom: between plots, and within them."""
    factors = range(len(names))
    subsets = [(axis,) for axis in factors] + list(itertools.combinations(factors, 2))
    counts = np.array([math.prod(levels[axis] - 1 for axis in subset) for subset in subsets])
    is_within = np.array([not set(subset).isdisjoint(conditions) for subset in subsets])
    freedom, split_freedom = np.where(is_within, 0, counts), np.where(is_within, counts, 0)
    terms, order = [" × ".join(names[axis] for axis in subset) for subset in subsets], [len(s) for s in subsets]
    if len(names) > 2:
        terms, order = [*terms, HIGHER], [*order, 3]
        cells, plots = math.prod(levels), math.prod(levels[axis] for axis in factors if axis not in conditions)
        freedom = np.append(freedom, plots - 1 - freedom.sum())
        split_freedom = np.append(split_freedom, cells - plots - split_freedom.sum())
    return terms, order, freedom.astype(float), split_freedom.astype(float)


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
