"""Every activation × normalization × width × dilution → measured and predicted explosion rates, as a CSV.

Networks are untrained, with gaussian weights of critical gain, on standard normal inputs, as many as units. The rate is
the growth of GSC(s → logits) per layer between the first and the last stream state; theory is evaluated at the same
depth and batch size. The same seeds are used in every cell, so neighbouring cells are not independent.
"""

import concurrent.futures
import csv
import dataclasses
import itertools
import math
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from scipy import stats

from study.gradient_scale import explosion_rate
from study.linearization import Linearization
from study.mean_field import predicted_explosion_rate, squared_growth_by_layer, stationary_explosion_rate
from study.network import PackedNetwork
from study.network_gsc import gsc_to_state
from study.random_streams import make_generator
from study.trial_config import ACTIVATIONS, NORMALIZATIONS, TrialConfig

WIDTHS = (100, 1000)
DILUTIONS = (0.0, 1.0, 2.0, 4.0)
DEPTH, BATCH, CLASSES, SEEDS, PROBE_VECTORS = 12, 128, 10, 6, 4


@dataclasses.dataclass(frozen=True)
class AtlasRow:
    """One cell; `low` and `high` are a 95% t interval over seeds.

    `stationary_explosion_rate` is theory's at infinite depth, `predicted_explosion_rate` at this one.
    `growth` is χ, the squared rate, with the standard error of its mean over seeds; `deviation` is the difference of
    measured and predicted χ in shares of the predicted χ − 1, `deviation_in_errors` in standard errors. None where
    something is not finite.
    """

    activation: str
    normalization: str
    width: int
    dilution: float
    depth: int
    batch: int
    seeds: int
    explosion_rate: float | None
    low: float | None
    high: float | None
    predicted_explosion_rate: float | None
    stationary_explosion_rate: float
    growth: float | None
    growth_standard_error: float | None
    predicted_growth: float | None
    deviation: float | None
    deviation_in_errors: float | None


def measure_atlas(cells: Sequence[tuple[str, str, int, float]], depth: int, seeds: int) -> Iterator[AtlasRow]:
    """Measure cells (activation, normalization, width, dilution) on all cores; yield their rows in order.

    Every process computes with one thread.
    """
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(
        os.cpu_count(), mp_context=context, initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        yield from pool.map(measure_cell, cells, itertools.repeat(depth), itertools.repeat(seeds))


def all_cells(widths: Sequence[int] = WIDTHS) -> list[tuple[str, str, int, float]]:
    """Return the cells of the whole family, the slow ones first."""
    return list(itertools.product(ACTIVATIONS, NORMALIZATIONS, sorted(widths, reverse=True), DILUTIONS))


def measure_cell(cell: tuple[str, str, int, float], depth: int, seeds: int) -> AtlasRow:
    """Measure one cell."""
    activation, normalization, width, dilution = cell
    rates = np.array([_measure_rate(cell, depth, seed) for seed in range(seeds)])
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(rates)
    mean, error = float(logs.mean()), float(logs.std(ddof=1) / math.sqrt(seeds))
    half = float(stats.t.ppf(0.975, seeds - 1)) * error
    theory = squared_growth_by_layer(depth, activation, normalization, dilution, batch_size=BATCH)
    predicted = predicted_explosion_rate(theory)
    growth = math.exp(2 * mean) if math.isfinite(mean) else math.nan
    growth_error, difference = 2 * growth * error, growth - predicted**2
    # The identity does not explode in theory, and a share of nothing means nothing.
    margin = predicted**2 - 1 if abs(predicted**2 - 1) > 1e-9 else math.nan
    low, rate, high = (_finite(math.exp(mean + shift)) if math.isfinite(mean) else None for shift in (-half, 0, half))
    return AtlasRow(
        activation=activation,
        normalization=normalization,
        width=width,
        dilution=dilution,
        depth=depth,
        batch=BATCH,
        seeds=seeds,
        explosion_rate=rate,
        low=low,
        high=high,
        predicted_explosion_rate=_finite(predicted),
        stationary_explosion_rate=stationary_explosion_rate(activation, normalization, dilution, BATCH),
        growth=_finite(growth),
        growth_standard_error=_finite(growth_error),
        predicted_growth=_finite(predicted**2),
        deviation=_finite(difference / abs(margin)),
        deviation_in_errors=_finite(difference / growth_error) if growth_error > 0 else None,
    )


def write_atlas(rows: Sequence[AtlasRow], path: Path) -> None:
    """Write rows as CSV, six significant digits, sorted as the table of the documentation is."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(field.name for field in dataclasses.fields(AtlasRow))
        for row in sorted(rows, key=lambda row: (ACTIVATIONS.index(row.activation), row.width, row.dilution)):
            writer.writerow(f"{value:.6g}" if isinstance(value, float) else value for value in dataclasses.astuple(row))


def _measure_rate(cell: tuple[str, str, int, float], depth: int, seed: int) -> float:
    activation, normalization, width, dilution = cell
    trial = TrialConfig(
        depth=depth, width=width, activation=activation, normalization=normalization, dilution=dilution, seed=seed
    )
    generator = make_generator(seed, "gaussian inputs")
    x = torch.randn(BATCH, width, generator=generator, dtype=torch.float64)
    linearization = Linearization(PackedNetwork([trial], width, CLASSES, dtype=torch.float64), x)
    signs = make_generator(seed, "probe signs")
    # Sign vectors everywhere: their error is small beside the spread over seeds, and one-hot vectors cost more.
    scale = gsc_to_state(linearization, depth, probe_vectors=PROBE_VECTORS, generators=[signs], exact=False)
    return explosion_rate(scale.log10_gsc).item()


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
