"""Bootstrap intervals against a plain loop, and against what an interval promises."""

from __future__ import annotations

import numpy as np
import pytest

from clp_transfer.evaluate import intervals
from clp_transfer.evaluate.intervals import ratio_intervals


def test_equals_a_plain_loop(monkeypatch) -> None:
    draw = np.random.default_rng(1)
    values, sizes = draw.normal(100, 20, 30), draw.integers(10, 60, 30)
    found = ratio_intervals(values, {"bytes": sizes}, 4000, 7)["bytes"]
    other = np.random.default_rng(99)
    ratios = []
    for _ in range(4000):
        chosen = other.choice(30, 30)
        ratios.append(sum(values[i] for i in chosen) / sum(sizes[i] for i in chosen))
    expected = np.percentile(ratios, [2.5, 97.5])
    spread = expected[1] - expected[0]
    assert np.abs(np.array(found) - expected).max() < 0.08 * spread
    monkeypatch.setattr(intervals, "BLOCK", 64)  # drawn a few at a time: the same draws
    assert ratio_intervals(values, {"bytes": sizes}, 4000, 7)["bytes"] == pytest.approx(found, rel=1e-12)


def test_covers_the_truth_about_as_often_as_it_says() -> None:
    draw, covered = np.random.default_rng(3), 0
    for trial in range(200):
        sizes = draw.integers(50, 500, 60)
        values = sizes * 0.7 + draw.normal(0, 0.1 * sizes)
        low, high = ratio_intervals(values, {"n": sizes}, 300, trial)["n"]
        covered += low <= 0.7 <= high
    assert 0.88 <= covered / 200 <= 0.99


def test_the_same_for_the_same_seed_and_none_for_one_document() -> None:
    values, sizes = np.array([1.0, 2.0, 4.0]), np.array([1, 1, 1])
    assert ratio_intervals(values, {"n": sizes}, 50, 1) == ratio_intervals(values, {"n": sizes}, 50, 1)
    assert ratio_intervals(values, {"n": sizes}, 50, 1) != ratio_intervals(values, {"n": sizes}, 50, 2)
    assert ratio_intervals(values[:1], {"n": sizes[:1]}, 50, 1) == {}
    assert ratio_intervals(values, {"n": sizes}, 0, 1) == {}
