"""Numbers of a GSC measurement → what they mean, in words."""

import math

from study.mean_field import predicted_trainable_depth

EXPLODES = 1.005
"""Rates nearer to 1 than this are called neither exploding nor shrinking: it is 28% over 50 layers."""

NO_RATE = (
    "no rate: fewer than two states that everything passes have a gradient; in a residual network put each addition "
    "into a module, or name other states (modules)"
)


def read_aloud(
    rate: float | None,
    interval: tuple[float, float] | None,
    log10_gsc: float | None,
    predicted: float | None,
    depth: str,
    unit: str = "layer",
) -> str:
    """Say what was measured: `explodes: ×1.210 per layer; GSC 8·10³ at depth 50; …`.

    Args:
        rate: the explosion rate, None where there is none.
        interval: its 95% interval, None for one seed.
        log10_gsc: from the input.
        predicted: the rate that theory says.
        depth: what GSC is measured over, as in "at depth 50".
        unit: what the rate is per.
    """
    parts = [_judge(rate, interval, unit) if rate is not None else _explain_missing_rate(log10_gsc, unit)]
    if log10_gsc is not None:
        parts.append(f"GSC {write_power(log10_gsc)} {depth}")
    if predicted is not None:
        parts.append(f"theory ×{predicted:.3f}")
    if rate is not None and _verdict(rate, interval) == "explodes":
        number = f"{predicted_trainable_depth(rate):.0f}"
        limit = f"depth {number}" if unit == "layer" else f"{number} {unit}s"
        parts.append(f"trainable to about {limit} at most (16/ln χ)")
    return "; ".join(parts)


def _judge(rate: float, interval: tuple[float, float] | None, unit: str) -> str:
    verdict = _verdict(rate, interval)
    unsure = ""
    if interval is None:
        unsure = " (one seed)"
    elif verdict == "undecided":
        unsure = f" ({interval[0]:.3f} to {interval[1]:.3f})"
    return f"{verdict}: ×{rate:.3f} per {unit}{unsure}"


def _verdict(rate: float, interval: tuple[float, float] | None) -> str:
    low, high = interval or (rate, rate)
    if rate > EXPLODES and low > 1:
        return "explodes"
    if rate < 1 / EXPLODES and high < 1:
        return "shrinks"
    return "neither explodes nor shrinks" if 1 / EXPLODES <= rate <= EXPLODES else "undecided"


def _explain_missing_rate(log10_gsc: float | None, unit: str) -> str:
    if log10_gsc is None:
        return "no GSC: a state or gradient vanishes or leaves the range of numbers"
    return NO_RATE if unit == "state" else "no rate: gradients reach fewer than two inner layers"


def write_power(log10_value: float) -> str:
    """Write 3.9 as `8·10³`, 0.2 as `1.6`."""
    if -1 < log10_value < 3:
        return f"{10**log10_value:.2g}" if log10_value < 2 else f"{10**log10_value:.0f}"
    exponent = math.floor(log10_value)
    mantissa = round(10 ** (log10_value - exponent))
    if mantissa == 10:
        mantissa, exponent = 1, exponent + 1
    return f"{mantissa}·10{str(exponent).translate(str.maketrans('-0123456789', '⁻⁰¹²³⁴⁵⁶⁷⁸⁹'))}"
