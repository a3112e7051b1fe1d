"""The ablation table, against numbers worked out by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
from scipy import stats

from clp_transfer.report.ablations import changed
from clp_transfer.report.find import find, sweeps
from clp_transfer.report.job import ArmRun, ReportJob
from clp_transfer.report.run import report

pytestmark = pytest.mark.usefixtures("no_figures")

PLAIN = [(0, 3.0), (1000, 2.0)]


@pytest.fixture
def ablated(outputs, tmp_path: Path):
    """Ridge with two seeds, a faster variant of both, a worse one of the first."""
    made = outputs("a")
    for seed, at in ((1, 400), (2, 600)):
        made.arm(f"ridge-seed{seed}", PLAIN)
        faster = [(0, 3.0), (at, 2.0), (1000, 1.5 + seed / 10)]
        made.arm(f"ridge-seed{seed},optim.lr=0.01", faster, settings={"optim": {"lr": 0.01}, "fused_loss": True})
    made.arm("ridge-seed1,optim.lr=1e-05", [(0, 3.0), (1000, 2.9)], settings={"optim": {"lr": 1e-05}})
    return made


def test_rows(ablated, tmp_path) -> None:
    results = report(find([tmp_path / "outputs/a"], tmp_path / "out"))
    assert list(results["arms"]) == ["ridge"], "variants are no arms of their own"
    (table,) = results["ablations"]
    plain, faster, worse = table["rows"]
    assert plain["variant"] == "" and plain["bits_per_byte"] == pytest.approx(2.0)
    assert faster["changed"] == {"optim.lr": [0.002, 0.01], "fused_loss": [None, True]}
    assert faster["bits_per_byte"] == pytest.approx(1.65)
    assert faster["interval"] == pytest.approx(stats.t.interval(0.95, 1, loc=1.65, scale=stats.sem([1.6, 1.7])))
    assert faster["saved"] == pytest.approx(0.5)  # 60% and 40%
    assert faster["saved_interval"] == pytest.approx(stats.t.interval(0.95, 1, loc=0.5, scale=stats.sem([0.6, 0.4])))
    assert worse["saved"] is None and worse["reached"] == 0 and worse["interval"] is None
    page = (tmp_path / "out/index.html").read_text()
    assert "0.002 → 0.01" in page and "one seed, no interval" in page
    written = (tmp_path / "out/tables/ablation-a-ridge.md").read_text()
    assert "| optim.lr: 0.002 → 1e-05 | 2.900 | not reached | 1 |" in written


def test_a_sweep_without_a_plain_run_is_a_comparison_of_its_members(outputs, tmp_path) -> None:
    made = outputs("a")
    for rate in (0.001, 0.002):
        made.arm(f"ridge-seed1,optim.lr={rate}", PLAIN, settings={"optim": {"lr": rate}})
    results = report(find([tmp_path / "outputs/a"], tmp_path / "out"))
    assert list(results["arms"]) == ["ridge,optim.lr=0.001", "ridge,optim.lr=0.002"]
    assert results["ablations"] == []


def test_the_stage_finds_the_sweeps_of_its_arms(ablated, tmp_path) -> None:
    ablated.arm("ridge-seed1,tune-0.001", PLAIN)
    ablated.arm("fvt-seed1,optim.lr=0.01", PLAIN)
    (ablated.root / "runs/ridge-seed1,half.partial").mkdir()
    plain = [ArmRun("ridge", 1, *(ablated.root / part / "ridge-seed1" for part in ("runs", "init", "evaluations")))]
    found = sweeps(ablated.root, plain)
    assert [run.variant for run in found] == ["optim.lr=0.01", "optim.lr=1e-05"]
    job = ReportJob("a", tmp_path / "out", ablated.root / "data", [*plain, *found])
    results = report(job)
    assert list(results["arms"]) == ["ridge"]
    assert [row["saved"] for row in results["ablations"][0]["rows"]] == [None, pytest.approx(0.6), None]


def test_all_rows_are_measured_in_one_way(ablated, tmp_path) -> None:
    """The runs of a sweep are seldom evaluated; the plain run's evaluation is then no value to set beside theirs."""
    ablated.arm("ridge-seed1", PLAIN, final={"bits_per_byte": 1.0})
    ablated.arm("ridge-seed1,optim.lr=0.5", [(0, 3.0), (1000, 2.2)], evaluated=False)
    (tmp_path / "outputs/a/evaluations/ridge-seed1,optim.lr=0.5").mkdir()
    results = report(find([tmp_path / "outputs/a"], tmp_path / "out"))
    (table,) = results["ablations"]
    assert table["evaluated"] is False
    assert table["rows"][0]["bits_per_byte"] == pytest.approx(2.0)
    assert results["left_out"] == []
    assert "ends training" in (tmp_path / "out/index.html").read_text()


def test_changed_reads_trees() -> None:
    there = {"seed": 1, "optim": {"lr": 1, "betas": [0, 1]}, "phases": None, "same": {"x": {"seed": 1}}}
    here = {"seed": 2, "optim": {"lr": 2, "betas": [0, 2]}, "phases": {"share": 0.2, "lr": None}, "same": {"x": {}}}
    assert changed(there, here) == {
        "optim.lr": [1, 2],
        "optim.betas": [[0, 1], [0, 2]],
        "phases.share": [None, 0.2],
        "same.x.seed": [1, None],
    }
