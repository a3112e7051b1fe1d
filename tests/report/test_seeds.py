"""Means and intervals over seeds, against scipy."""

from __future__ import annotations

import pytest
from scipy import stats

from clp_transfer.report.seeds import curve_intervals, interval, mean_curve, mean_record, t_quantile


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 5, 9, 10, 31, 200])
@pytest.mark.parametrize("probability", [0.6, 0.95, 0.975, 0.995])
def test_t_quantile(freedom: int, probability: float) -> None:
    assert t_quantile(probability, freedom) == pytest.approx(stats.t.ppf(probability, freedom), rel=1e-9)


def test_interval_is_students() -> None:
    values = [5.45, 5.51, 5.40, 5.47]
    expected = stats.t.interval(0.95, 3, loc=sum(values) / 4, scale=stats.sem(values))
    assert interval(values) == pytest.approx(list(expected))


def test_one_value_has_no_interval() -> None:
    assert interval([5.4]) is None


def test_curves_are_averaged_where_all_have_a_point() -> None:
    def point(tokens: int, value: float) -> dict[str, float]:
        names = ("nats_per_token", "token_perplexity", "word_perplexity", "bits_per_byte")
        return {"tokens": tokens, **dict.fromkeys(names, value)}

    curves = [[point(0, 9.0), point(100, 5.0)], [point(0, 7.0), point(50, 6.0), point(100, 4.0)]]
    assert [(p["tokens"], p["bits_per_byte"]) for p in mean_curve(curves)] == [(0, 8.0), (100, 4.5)]
    low, high = curve_intervals(curves)[1]["bits_per_byte"]
    # Two values one apart: half-width is t(1) / 2.
    assert (high - low) / 2 == pytest.approx(stats.t.ppf(0.975, 1) * 0.5)
    assert curve_intervals(curves[:1]) == []


def test_records_average_numbers_and_keep_words() -> None:
    merged = mean_record([{"a": 1.0, "n": 7, "policy": "strided"}, {"a": 3.0, "n": 7, "policy": "strided"}])
    assert merged == {"a": 2.0, "n": 7, "policy": "strided"}
    assert isinstance(merged["n"], int)
