"""Numbers as a reader wants them: percentages, counts of tokens, small and large quantities."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

NONE = "–"
MINUS = "−"


def percent(share: float | None, signed: bool = False) -> str:
    """A share as a whole percentage; one decimal where rounding would claim none or all of it."""
    if share is None:
        return NONE
    text = f"{abs(share) * 100:.{_decimals(share)}f}%"
    negative = share < 0 and float(text[:-1]) != 0
    return (MINUS if negative else "+" if signed else "") + text


def _decimals(share: float) -> int:
    return 1 if 0 < abs(share) < 0.01 or 0.99 < abs(share) < 1 else 0


def unreached(record: dict[str, Any]) -> str:
    """Why an arm has no tokens saved, by its record in `tokens_saved`: it did not get there, or there is no there."""
    value = record["reference_bits_per_byte"]
    return "scratch diverged" if value is None or math.isnan(value) else "not reached"


def count(value: float | None) -> str:
    """Tokens, bytes or parameters in three significant digits: 0, 812, 83.1 k, 1.20 M, 50.4 B."""
    if value is None:
        return NONE
    for unit, size in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{_three(value / size)} {unit}"
    return f"{value:.0f}"


def _three(value: float) -> str:
    return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f}"


def number(value: float | None, digits: int = 2) -> str:
    """A plain decimal, with thousands separated; a dash for none."""
    return NONE if value is None else f"{value:,.{digits}f}"


def plus_minus(value: float | None, bounds: Sequence[float] | None, digits: int) -> str:
    """A mean with half of its 95% interval [low, high]: `2.101 ± 0.012`; alone where there is no interval."""
    if value is None or bounds is None:
        return number(value, digits)
    return f"{number(value, digits)} ± {number((bounds[1] - bounds[0]) / 2, digits)}"


def percent_plus_minus(share: float | None, bounds: Sequence[float] | None) -> str:
    """The same of a share, in points and as exact as the share is shown: `79% ± 3`, `99.6% ± 0.2`."""
    if share is None or bounds is None:
        return percent(share)
    return f"{percent(share)} ± {(bounds[1] - bounds[0]) * 50:.{_decimals(share)}f}"


def sized(value: float | None, digits: int) -> str:
    """A plain decimal with at most so many digits, fewer from 100 on and none from 1000 on."""
    size = abs(value or 0.0)
    return number(value, 0 if size >= 1000 else min(digits, 1) if size >= 100 else digits)


def power(value: float | None) -> str:
    """A large quantity as 1.2 × 10¹⁵; a dash for none."""
    if not value:
        return NONE
    mantissa, exponent = f"{value:.1e}".split("e")
    digits = str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{mantissa} × 10{digits}"


def rate(value: float | None) -> str:
    """A learning rate without needless digits: 0.002, 5e-05."""
    return NONE if value is None else f"{value:g}"


def between(bounds: list[float] | None) -> str:
    """A 95% interval of a share, `83% to 89%`; empty for none."""
    return f"{percent(bounds[0])} to {percent(bounds[1])}" if bounds else ""


def listed(items: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}" if items else ""
