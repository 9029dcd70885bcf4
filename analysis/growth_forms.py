"""Profiles of GSC over layers → which form its growth has: exponential, power or stretched exponential.

Legend:
    m      layers between a stream state and the last one, 0 … D−2
    y(m)   log10 GSC(that state → logits) less the same of the last state; y(0) = 0
Forms:  exponential y = b·m,  power y = b·log10(1 + m),  stretched y = b·m^c.
Check: GSC that is multiplied by 10 in every layer has y = m: exponential with b = 1, stretched with c = 1.
"""

import dataclasses
import math
from typing import Any

import numpy as np
import pandas as pd

from analysis.tidy_frames import ARCHITECTURE, UNTRAINED, StudyFrames
from analysis.uncertainty import t_interval

FORMS = ("exponential", "power", "stretched")
NOT_SHOWN = "growth not shown"
EXPONENTS = np.round(np.arange(0.2, 3.001, 0.01), 2)
FORM_COLUMNS = [
    "network", *ARCHITECTURE, "depth", "seeds", "best", "exponential_error", "power_error", "stretched_error",
    "gain_over_exponential", "gain_low", "gain_high", "stretched_exponent", "note",
]  # fmt: skip


@dataclasses.dataclass(frozen=True)
class FormComparison:
    """Errors (decades of GSC, root mean square) on seeds that a form was not fitted to, and the form to prefer.

    `best` is exponential unless another form's gain over it, in decades, has a 95% interval above 0, and NOT_SHOWN
    where that of the exponential's slope b holds 0; `gain` is of the better of the other two, with that interval.
    `exponent` is c of the stretched form fitted to all seeds; None where it lies beyond EXPONENTS or nothing is shown
    to grow.
    """

    best: str | None = None
    errors: dict[str, float] = dataclasses.field(default_factory=dict)
    gain: tuple[float, float, float] | None = None
    exponent: float | None = None
    note: str = ""


@dataclasses.dataclass(frozen=True)
class FormComparisons:
    """`table` has FORM_COLUMNS, a row per architecture, at its greatest depth; `note` says why it is empty."""

    table: pd.DataFrame
    note: str = ""


def compare_growth_forms(frames: StudyFrames) -> FormComparisons:
    """Compare the forms before training, per architecture, at the greatest of the depths that have most seeds."""
    first = frames.layers[(frames.layers["epoch"] == 0) & (frames.layers["layer"] >= 1)]
    networks = frames.trials[frames.trials["run_id"].isin(first["run_id"]) & (frames.trials["depth"] >= 3)]
    networks = networks.drop_duplicates([*UNTRAINED, "depth", "seed"])
    rows = []
    for (name, *architecture), group in networks.groupby(["untrained", *ARCHITECTURE], sort=True):
        seeds = group.groupby("depth")["seed"].nunique()
        depth = int(seeds[seeds == seeds.max()].index.max())
        runs = group.loc[group["depth"] == depth, "run_id"]
        profiles = first[first["run_id"].isin(runs)].pivot_table(index="run_id", columns="layer", values="log10_gsc")
        fields = dict(zip(ARCHITECTURE, architecture, strict=True))
        result = compare_forms(profiles.reindex(columns=np.arange(1.0, depth)).to_numpy())
        rows.append({"network": name, **fields, "depth": depth, "seeds": len(profiles), **_as_row(result)})
    note = "" if rows else "There is no growth to compare: no network of 3 layers or more was measured untrained."
    return FormComparisons(pd.DataFrame(rows, columns=FORM_COLUMNS), note)


def compare_forms(log10_gsc: np.ndarray) -> FormComparison:
    """Compare the forms on profiles [seeds, layers 1 … D−1] of log10 GSC(layer → logits), leaving each seed out.

    Profiles with a layer that nothing arrives at are left out.
    """
    log10_gsc = np.asarray(log10_gsc, dtype=float)
    y = (log10_gsc - log10_gsc[:, -1:])[:, ::-1] if log10_gsc.size else np.empty((0, 0))
    y = y[np.isfinite(y).all(axis=1)]
    seeds, states = y.shape
    if states < 4:
        return FormComparison(note="forms are told apart from 5 layers on")
    if seeds < 2:
        return FormComparison(note=f"forms are scored on a seed left out, and there is {seeds or 'none'} alone")
    m = np.arange(states, dtype=float)
    others = (y.sum(axis=0) - y) / (seeds - 1)
    errors = {form: np.sqrt(np.mean((fit(others, m) - y)[:, 1:] ** 2, axis=1)) for form, fit in FITS.items()}
    rival = min(("power", "stretched"), key=lambda form: errors[form].mean())
    gain = t_interval(errors["exponential"] - errors[rival])
    _, slope_low, slope_high = t_interval(y @ m / (m @ m))
    grows = not slope_low <= 0 <= slope_high
    exponent = float(_best_exponents(y.mean(axis=0, keepdims=True), m)[0])
    is_told = EXPONENTS[0] < exponent < EXPONENTS[-1]
    return FormComparison(
        best=NOT_SHOWN if not grows else rival if gain[1] > 1e-9 else "exponential",
        errors={form: float(values.mean()) for form, values in errors.items()},
        gain=gain,
        exponent=exponent if is_told and grows else None,
        note="" if is_told else f"no exponent between {EXPONENTS[0]:g} and {EXPONENTS[-1]:g} fits best",
    )


def _fit_exponential(y: np.ndarray, m: np.ndarray) -> np.ndarray:
    """Return least-squares values [profiles, states] of y = b·m."""
    return (y @ m / (m @ m))[:, None] * m


def _fit_power(y: np.ndarray, m: np.ndarray) -> np.ndarray:
    return _fit_exponential(y, np.log10(1 + m))


def _fit_stretched(y: np.ndarray, m: np.ndarray) -> np.ndarray:
    powers = m ** _best_exponents(y, m)[:, None]
    return ((y * powers).sum(axis=1) / (powers**2).sum(axis=1))[:, None] * powers


def _best_exponents(y: np.ndarray, m: np.ndarray) -> np.ndarray:
    """Return for profiles [profiles, states] the exponent that leaves the smallest sum of squares."""
    powers = m ** EXPONENTS[:, None]
    explained = (y @ powers.T) ** 2 / (powers**2).sum(axis=1)
    return EXPONENTS[explained.argmax(axis=1)]


FITS = {"exponential": _fit_exponential, "power": _fit_power, "stretched": _fit_stretched}


def _as_row(result: FormComparison) -> dict[str, Any]:
    gain = result.gain or (math.nan, math.nan, math.nan)
    return {
        "best": result.best or "",
        **{f"{form}_error": result.errors.get(form, math.nan) for form in FORMS},
        **dict(zip(("gain_over_exponential", "gain_low", "gain_high"), gain, strict=True)),
        "stretched_exponent": math.nan if result.exponent is None else result.exponent,
        "note": result.note,
    }
