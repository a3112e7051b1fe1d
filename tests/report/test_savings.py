"""Tokens and FLOPs saved, against numbers worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from scipy import stats

from clp_transfer.clp.job import NEEDS_HELPER
from clp_transfer.report.assemble import assemble
from clp_transfer.report.collect import collect
from clp_transfer.report.find import find
from clp_transfer.report.headline import lead
from clp_transfer.report.job import ReportJob
from clp_transfer.report.paper import paper
from clp_transfer.report.records import Arm
from clp_transfer.report.run import report
from clp_transfer.report.savings import WITHOUT_HELPER, tokens_at, tokens_saved
from clp_transfer.report.tables import tables


def results_of(job: ReportJob) -> dict[str, Any]:
    return assemble(job, collect(job))


def arm(name: str, points: list[tuple[int, float]], seed: int = 1, per_token: float = 10.0) -> Arm:
    curve = [{"tokens": tokens, "bits_per_byte": bits} for tokens, bits in points]
    summary: dict[str, Any] = {"flops_per_token": per_token}
    return Arm(name, seed, curve, summary, {}, {}, {})


SCRATCH = [(0, 3.0), (500, 2.4), (1000, 2.0)]


def test_crossing_is_interpolated() -> None:
    assert tokens_at([(0, 4.0), (100, 3.0), (300, 1.0)], 1.5) == 250


def test_crossing_is_the_first_of_a_curve_that_rises_again() -> None:
    # Down through 2.0 between 100 and 200, up again, and down once more.
    points = [(0, 3.0), (100, 2.5), (200, 1.5), (300, 2.8), (400, 1.0)]
    assert tokens_at(points, 2.0) == 150


def test_a_point_exactly_on_the_target_is_the_crossing() -> None:
    assert tokens_at([(0, 3.0), (100, 2.0), (200, 1.0)], 2.0) == 100


def test_already_below_at_step_0() -> None:
    assert tokens_at([(0, 1.9), (100, 2.5)], 2.0) == 0


def test_not_reached_is_none() -> None:
    assert tokens_at([(0, 3.0), (100, 2.01)], 2.0) is None
    assert tokens_at([], 2.0) is None


def test_a_value_that_is_no_number_is_passed_over() -> None:
    assert tokens_at([(0, 3.0), (100, math.nan), (200, 1.0)], 2.0) == 100
    assert tokens_at([(0, math.nan), (100, math.nan)], 2.0) is None


def test_saved_by_hand() -> None:
    ridge = [(0, 2.6), (100, 2.2), (300, 1.8), (1000, 1.6)]
    saved = tokens_saved([arm("scratch", SCRATCH), arm("ridge", ridge, per_token=12.0)], helper_flops=1000.0)["ridge"]
    assert saved["reference_bits_per_byte"] == 2.0
    assert saved["scratch_tokens"] == 1000
    assert saved["arm_tokens"] == pytest.approx(200)
    assert saved["saved"] == pytest.approx(0.8)
    # 200 tokens at 12 FLOPs and 1000 FLOPs of helper, against 1000 tokens at 10: 1 - 3400 / 10000.
    assert saved["saved_flops_counting_the_helper"] == pytest.approx(0.66)
    assert saved["reached"] is True


def test_arms_without_a_helper_pay_none_and_unknown_ones_do() -> None:
    half = [(0, 3.0), (500, 2.0)]
    arms = [arm("scratch", SCRATCH), *(arm(name, half) for name in ("random", "mean", "fvt", "clp", "something-new"))]
    flops = {name: r["saved_flops_counting_the_helper"] for name, r in tokens_saved(arms, 6000.0).items()}
    assert flops["random"] == flops["mean"] == flops["fvt"] == pytest.approx(0.5)
    # Negative where the helper cost more than was saved: 1 - (5000 + 6000) / 10000.
    assert flops["clp"] == flops["something-new"] == pytest.approx(-0.1)


def test_method_decides_over_the_arm_name() -> None:
    plain = arm("mine", [(0, 3.0), (500, 2.0)])
    renamed = replace(plain, transfer={"method": "fvt"})
    saved = tokens_saved([arm("scratch", SCRATCH), renamed], 6000.0)["mine"]
    assert saved["saved_flops_counting_the_helper"] == pytest.approx(0.5)


def test_unknown_helper_cost_is_null_not_zero() -> None:
    arms = [arm("scratch", SCRATCH), arm("clp", [(0, 3.0), (500, 2.0)]), arm("fvt", [(0, 3.0), (500, 2.0)])]
    saved = tokens_saved(arms, None)
    assert saved["clp"]["saved"] == pytest.approx(0.5)
    assert saved["clp"]["saved_flops_counting_the_helper"] is None
    assert saved["fvt"]["saved_flops_counting_the_helper"] == pytest.approx(0.5)


def test_not_reached_and_immediate() -> None:
    arms = [arm("scratch", SCRATCH), arm("clp", [(0, 13.9), (1000, 2.1)]), arm("ridge", [(0, 1.5), (1000, 1.4)])]
    saved = tokens_saved(arms, 1000.0)
    assert saved["clp"]["saved"] is None
    assert saved["clp"]["reached"] is False
    assert saved["clp"]["saved_flops_counting_the_helper"] is None
    assert saved["ridge"]["arm_tokens"] == 0
    assert saved["ridge"]["saved"] == 1.0
    assert saved["ridge"]["saved_flops_counting_the_helper"] == pytest.approx(0.9)


def test_scratch_that_rises_at_its_end_is_counted_to_its_own_first_crossing() -> None:
    rising = [(0, 3.0), (500, 1.8), (1000, 2.0)]
    saved = tokens_saved([arm("scratch", rising), arm("fvt", [(0, 2.5), (100, 1.5)])], None)["fvt"]
    scratch_tokens = 500 * (3.0 - 2.0) / (3.0 - 1.8)
    assert saved["scratch_tokens"] == pytest.approx(scratch_tokens)
    assert saved["saved"] == pytest.approx(1 - 50 / scratch_tokens)


def test_no_scratch_gives_no_savings() -> None:
    assert tokens_saved([arm("ridge", SCRATCH)], 1.0) == {}


def test_seeds_pair_with_their_own_scratch() -> None:
    arms = []
    shares = {1: 0.8, 2: 0.7, 3: 0.75}
    for seed, share in shares.items():
        end = 2.0 - seed / 10
        arms.append(arm("scratch", [(0, 3.0), (1000, end)], seed))
        arms.append(arm("ridge", [(0, 3.0), (round(1000 * (1 - share)), end)], seed))
    saved = tokens_saved(arms, 0.0)["ridge"]
    values = list(shares.values())
    expected = stats.t.interval(0.95, 2, loc=0.75, scale=stats.sem(values))
    assert saved["saved"] == pytest.approx(0.75)
    assert saved["intervals"]["saved"] == pytest.approx(expected)
    assert saved["seeds"]["2"]["saved"] == pytest.approx(0.7)


def test_one_seed_that_does_not_get_there_leaves_no_mean() -> None:
    arms = [arm(name, points, seed) for seed, end in ((1, 1.9), (2, 2.1)) for name, points in
            (("scratch", SCRATCH), ("fvt", [(0, 3.0), (500, end)]))]  # fmt: skip
    saved = tokens_saved(arms, None)["fvt"]
    assert saved["saved"] is None
    assert saved["reached"] is False
    assert saved["seeds_reached"] == 1
    assert saved["seeds"]["1"]["saved"] is not None


def test_the_papers_figure_saves_what_was_read_off_it() -> None:
    saved = paper()["saved"]
    # Between 9.9 B (59.9) and 11.4 B (58.4), 59.2 lies 0.7 of 1.5 along.
    assert saved["arm_tokens"] == pytest.approx((9.9 + 1.5 * 0.7 / 1.5) * 1e9)
    assert saved["saved"] == pytest.approx(0.90, abs=0.001)


def test_the_methods_without_a_helper_are_those_that_the_transfer_needs_none_for() -> None:
    for method, needs in {"scratch": False, "fvt": False, "focus": False, "clp": True, "calibrate": True}.items():
        assert (method not in WITHOUT_HELPER) == needs
    assert "auto" not in WITHOUT_HELPER and "a method of tomorrow" not in WITHOUT_HELPER
    assert not WITHOUT_HELPER & NEEDS_HELPER


def test_a_seed_without_scratch_is_told(outputs, tmp_path) -> None:
    one = outputs("a")
    for name in ("scratch-seed1", "clp-seed1", "clp-seed2"):
        one.arm(name, SCRATCH)
    results = results_of(find([one.root], tmp_path / "out"))
    assert results["cautions"] == ["Seed 2 of clp has no training from scratch: tokens saved are of the other seeds."]
    one.arm("scratch-seed2", SCRATCH)
    assert results_of(find([one.root], tmp_path / "out"))["cautions"] == []


def test_a_diverged_reference_is_not_an_arm_that_does_not_get_there(folders, no_figures) -> None:
    for seed, end in ((1, math.nan), (2, 2.0)):
        folders.arm("scratch", [(0, 3.0), (1000, end)], seed)
        folders.arm("clp", [(0, 3.0), (500, 1.5)], seed)
    results = results_of(folders.job())
    assert results["tokens_saved"]["clp"]["reference_bits_per_byte"] is None
    assert any("scratch with seed 1 diverged" in text for text in results["cautions"])
    shown = [str(table.rows) for table in tables(results) if table.name == "savings"]
    assert "scratch diverged" in shown[0] and "not reached" not in shown[0]
    report(folders.job())
    words = " ".join([*lead(results), (folders.root / "report/index.html").read_text()])
    assert "scratch diverged" in words and "reached by 1 of 2" not in words and "not reach that loss" not in words
