"""The ranges of the method options: each is enforced, the bounds themselves included, and null passes."""

from __future__ import annotations

import pytest

from clp_transfer.clp.job import MethodConfig
from clp_transfer.clp.limits import RANGES, check_ranges
from clp_transfer.errors import UserError


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"weighting": "Softmax"}, "plain or softmax or sparsemax"),
        ({"negative": "drop"}, "keep or cut"),
        ({"norms": "typo"}, "keep or source"),
        ({"top_k": 0}, "1 or more"),
        ({"atoms": -3}, "1 or more"),
        ({"temperature": 0.0}, "more than 0"),
        ({"ridge": 0.0}, "more than 0"),
        ({"share": 1.01}, "from 0 to 1"),
        ({"share": float("nan")}, "from 0 to 1"),
        ({"folds": 1}, "2 or more"),
        ({"shrink": -0.1}, "0 or more"),
        ({"frequency_power": -1.0}, "0 or more"),
    ],
)
def test_out_of_range(options: dict, expected: str) -> None:
    option, value = next(iter(options.items()))
    with pytest.raises(UserError, match=f"method.{option}={value}") as error:
        check_ranges(MethodConfig("clp", **options))
    assert error.value.remedy == f"expected: {expected}"


def test_in_range() -> None:
    """Every bounded option is an option, and bounds and null are in their range."""
    assert set(RANGES) <= set(vars(MethodConfig()))
    check_ranges(MethodConfig("clp", top_k=1, share=0.0, folds=2, shrink=0.0, frequency_power=0.0, atoms=1))
    check_ranges(MethodConfig("clp", top_k=None, ridge=None, share=1.0, temperature=1e-9))
