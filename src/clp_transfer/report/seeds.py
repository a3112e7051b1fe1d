"""What several seeds say together: the mean and its 95% interval by Student's t."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from clp_transfer.report.records import METRICS

Interval = list[float]


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean."""
    return math.fsum(values) / len(values)


def interval(values: Sequence[float], level: float = 0.95) -> Interval | None:
    """The two-sided t-interval [low, high] of the mean of independent values; None for fewer than two."""
    if len(values) < 2:
        return None
    centre = mean(values)
    variance = math.fsum((v - centre) ** 2 for v in values) / (len(values) - 1)
    half = t_quantile(0.5 + level / 2, len(values) - 1) * math.sqrt(variance / len(values))
    return [centre - half, centre + half]


def t_quantile(probability: float, freedom: int) -> float:
    """Quantile of Student's t for a probability from 0.5 up to 1 (exclusive), by bisection on the exact CDF."""
    inside, low, high = 2 * probability - 1, 0.0, math.pi / 2
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if _central_probability(middle, freedom) < inside else (low, middle)
    return math.sqrt(freedom) * math.tan((low + high) / 2)


def _central_probability(angle: float, freedom: int) -> float:
    """P(|T| < t) with angle = atan(t / sqrt(freedom)): Abramowitz & Stegun 26.7.3 (odd) and 26.7.4 (even)."""
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    term, total = (cosine if odd else 1.0), 0.0
    for k in range(1 + odd, freedom, 2):
        total += term
        term *= k / (k + 1) * cosine**2
    return 2 / math.pi * (angle + sine * total) if odd else sine * total


def mean_curve(curves: Sequence[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The mean of each metric at the token counts that all the curves have."""
    return [
        {"tokens": tokens, **{name: mean([p[name] for p in points]) for name in METRICS if name in points[0]}}
        for tokens, points in _aligned(curves)
    ]


def curve_intervals(curves: Sequence[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Beside `mean_curve`: [low, high] of each metric; empty for fewer than two curves."""
    if len(curves) < 2:
        return []
    return [
        {"tokens": tokens, **{name: interval([p[name] for p in points]) for name in METRICS if name in points[0]}}
        for tokens, points in _aligned(curves)
    ]


def _aligned(curves: Sequence[list[dict[str, Any]]]) -> list[tuple[int, list[dict[str, Any]]]]:
    tables = [{point["tokens"]: point for point in curve} for curve in curves]
    shared = set.intersection(*(set(table) for table in tables))
    return [(tokens, [table[tokens] for table in tables]) for tokens in sorted(shared)]


def mean_record(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Field by field: the mean where all are numbers, else the first record's value."""
    if not records:
        return {}
    merged = dict(records[0])
    for name in merged:
        values = [record.get(name) for record in records]
        if all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
            same = all(v == values[0] for v in values)
            merged[name] = values[0] if same else mean([float(v) for v in values if v is not None])
    return merged
