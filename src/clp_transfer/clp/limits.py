"""Which values a method's options may have: checked by the command line and by the library alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from clp_transfer.clp.job import MethodConfig
from clp_transfer.errors import UserError

Range = tuple[Callable[[Any], bool], str]


def _choice(*values: str) -> Range:
    return (lambda value: value in values, " or ".join(values))


POSITIVE: Range = (lambda value: value > 0, "more than 0")
A_COUNT: Range = (lambda value: value >= 1, "1 or more")
NOT_NEGATIVE: Range = (lambda value: value >= 0, "0 or more")
RANGES: dict[str, Range] = {
    "weighting": _choice("plain", "softmax", "sparsemax"),
    "negative": _choice("keep", "cut"),
    "norms": _choice("keep", "source"),
    "share": (lambda value: 0 <= value <= 1, "from 0 to 1"),
    "folds": (lambda value: value >= 2, "2 or more"),
    "shrink": NOT_NEGATIVE,
    "frequency_power": NOT_NEGATIVE,
    **dict.fromkeys(("temperature", "ridge", "rate"), POSITIVE),
    **dict.fromkeys(("top_k", "atoms", "tokens", "batch", "window", "focus_epochs", "focus_dimension"), A_COUNT),
}


def check_ranges(method: MethodConfig) -> None:
    """Raise UserError for the first option out of its range; null is always in it."""
    for option, (holds, expected) in RANGES.items():
        value = getattr(method, option)
        if value is not None and not holds(value):
            raise UserError(f"method.{option}={value} makes no sense", f"expected: {expected}")
