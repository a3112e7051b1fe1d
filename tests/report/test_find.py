"""`python -m clp_transfer.report A B …`: what is found below folders, and what one page says of all of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from clp_transfer.errors import UserError
from clp_transfer.report.assemble import assemble
from clp_transfer.report.collect import collect
from clp_transfer.report.find import find
from clp_transfer.report.headline import headline
from clp_transfer.report.job import ReportJob
from clp_transfer.report.run import report

SCRATCH = [(0, 3.0), (500, 2.4), (1000, 2.0)]
RIDGE = [(0, 2.6), (100, 2.2), (300, 1.8), (1000, 1.6)]  # comes down to 2.0 at 200 tokens


@pytest.fixture
def two(outputs, tmp_path: Path):
    """Experiments `a` and `b`, each with scratch and ridge; b's ridge is slower, and b's helper costs more."""
    a, b = outputs("a"), outputs("b")
    for one, helper in ((a, 1000.0), (b, 5000.0)):
        one.arm("scratch-seed1", SCRATCH)
        one.helper(helper)
    a.arm("ridge-seed1", RIDGE)
    b.arm("ridge-seed1", [(0, 3.0), (500, 2.0), (1000, 1.7)])
    return a, b


def merged(tmp_path: Path, *names: str) -> dict:
    return results_of(find([tmp_path / "outputs" / name for name in names], tmp_path / "comparison"))


def results_of(job: ReportJob) -> dict:
    """The report's numbers, without drawing its figures."""
    return assemble(job, collect(job))


def test_arms_of_one_name_are_told_apart_and_held_against_their_own_scratch(two, tmp_path) -> None:
    results = merged(tmp_path, "a", "b")
    assert list(results["arms"]) == ["a/scratch", "a/ridge", "b/scratch", "b/ridge"]
    saved = results["tokens_saved"]
    assert set(saved) == {"a/ridge", "b/ridge"}
    assert saved["a/ridge"]["saved"] == pytest.approx(0.8)
    assert saved["b/ridge"]["saved"] == pytest.approx(0.5)
    assert saved["b/ridge"]["reference"] == "b/scratch"
    # Each pays for its own experiment's helper: (2000 + 1000) and (5000 + 5000) of 10,000 FLOPs.
    assert saved["a/ridge"]["saved_flops_counting_the_helper"] == pytest.approx(0.7)
    assert saved["b/ridge"]["saved_flops_counting_the_helper"] == pytest.approx(0.0)
    assert results["cautions"] == []
    assert headline(results) == "a/ridge reaches the final loss of training from scratch with 20% of the tokens."


def test_an_experiment_with_a_helper_for_every_seed_pays_for_the_first_that_is_finished(outputs, two, tmp_path) -> None:
    c = outputs("c")
    c.arm("scratch-seed2", SCRATCH)
    c.arm("ridge-seed2", RIDGE)
    for seed, flops in ((10, 3000.0), (2, 4000.0)):  # by number: 2 comes before 10
        c.helper(flops, f"helper,seed{seed}")
    (c.root / "runs/helper,seed1").mkdir()  # begun, not finished
    c.helper(1.0, "helper,seed1,optim.lr=0.001")
    for names in (["c"], ["a", "c"]):
        results = merged(tmp_path, *names)
        saved = results["tokens_saved"]["c/ridge" if "a" in names else "ridge"]
        assert saved["saved_flops_counting_the_helper"] == pytest.approx(1 - (2000 + 4000) / 10_000)
        assert results["helper_flops"]["c"] == 4000.0
        rows = [
            (row["stage"], row["runs"], row["flops"]) for row in results["cost"]["rows"] if "helper" in row["stage"]
        ]
        assert ("train the c/helper", 2, 7000.0) in rows and len(rows) == len(names)


def test_one_experiment_keeps_its_names(two, tmp_path) -> None:
    assert list(merged(tmp_path, "a")["arms"]) == ["scratch", "ridge"]


def test_an_arm_without_scratch_borrows_one_of_the_same_text(outputs, two, tmp_path) -> None:
    outputs("c").arm("fvt-seed1", [(0, 3.0), (250, 2.0), (1000, 1.9)])
    results = merged(tmp_path, "a", "c")
    assert results["tokens_saved"]["fvt"]["saved"] == pytest.approx(0.75)
    assert any("fvt is held against another experiment's training from scratch" in c for c in results["cautions"])
    outputs("d", text="other").arm("mean-seed1", [(0, 3.0), (250, 2.0), (1000, 1.9)])
    assert "mean" not in merged(tmp_path, "a", "d")["tokens_saved"]


def test_single_runs_and_evaluations(two, tmp_path) -> None:
    root = tmp_path / "outputs"
    job = find([root / "a/runs/ridge-seed1", root / "b/evaluations/ridge-seed1", root / "b/runs/scratch-seed1"], root)
    assert [run.arm for run in job.arms] == ["a/ridge", "b/scratch", "b/ridge"]
    assert find([root / "a/runs/ridge-seed1", root / "a"], root).arms == find([root / "a"], root).arms


def test_experiments_of_one_name_in_different_places(outputs, tmp_path) -> None:
    outputs("x/mini").arm("ridge-seed1", RIDGE)
    outputs("y/mini").arm("ridge-seed1", RIDGE)
    job = find([tmp_path / "outputs/x/mini", tmp_path / "outputs/y/mini"], tmp_path / "out")
    assert [run.arm for run in job.arms] == ["x/mini/ridge", "y/mini/ridge"]


def test_what_is_not_finished_is_told_with_its_reason(two, tmp_path) -> None:
    a = two[0]
    partial = a.root / "runs/clp-seed1.partial"
    partial.mkdir()
    (partial / "metrics.jsonl").write_text('{"kind": "train", "tokens": 700}\n{"kind": "tr')
    (a.root / "init/mean-seed1").mkdir()
    (a.root / "runs/fvt-seed1").mkdir()
    a.arm("random-seed1", SCRATCH)
    (a.root / "runs/random-seed1/metrics.jsonl").write_text("")
    a.arm("blend-seed1", SCRATCH, evaluated=False)
    results = merged(tmp_path, "a")
    told = {row["run"]: row["reason"] for row in results["left_out"]}
    assert "at 700 tokens" in told["a: clp-seed1"]
    assert "not trained" in told["a: mean-seed1"]
    assert "no manifest" in told["a: fvt-seed1"]
    assert "metrics.jsonl is missing, or not the file" in told["a: random-seed1"]
    assert "not evaluated" in told["blend, seed 1"]
    assert list(results["arms"]) == ["scratch", "ridge", "blend"]


def test_runs_whose_weights_were_deleted_still_compare(two, tmp_path) -> None:
    path = two[0].root / "runs/ridge-seed1/manifest.json"
    manifest = json.loads(path.read_text())
    manifest["files"]["model/model.safetensors"] = {"bytes": 9, "sha256": "0"}
    path.write_text(json.dumps(manifest))
    assert "ridge" in merged(tmp_path, "a")["arms"]


@pytest.mark.parametrize("name", ["gone", "empty"])
def test_a_folder_without_runs_is_refused(tmp_path, name) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=name):
        find([tmp_path / name], tmp_path / "out")


def test_unequal_budgets_other_text_and_other_tokenizers_are_stated(outputs, tmp_path) -> None:
    outputs("a").arm("ridge-seed1", RIDGE)
    outputs("longer").arm("ridge-seed1", [*RIDGE, (2000, 1.5)])
    outputs("text", text="other text").arm("ridge-seed1", RIDGE)
    outputs("tokens", tokenizer="u").arm("ridge-seed1", RIDGE)

    def cautions(name: str) -> str:
        return " ".join(merged(tmp_path, "a", name)["cautions"])

    told = cautions("longer")
    assert "Unequal budgets (1.00 k tokens: a/ridge; 2.00 k tokens: longer/ridge)" in told
    assert "held-out" not in told and "tokenizers" not in told
    assert "Other held-out text (a/ridge; text/ridge)" in cautions("text")
    told = cautions("tokens")
    assert "Other tokenizers (a/ridge; tokens/ridge)" in told and "Other held-out text" not in told


def test_an_arm_that_was_not_evaluated_is_compared_by_its_pack(outputs, tmp_path) -> None:
    outputs("a").arm("ridge-seed1", RIDGE)
    outputs("same").arm("fvt-seed1", RIDGE, evaluated=False)
    outputs("other", text="other text").arm("mean-seed1", RIDGE, evaluated=False)
    outputs("tokens", tokenizer="u").arm("clp-seed1", RIDGE, evaluated=False)
    assert "held-out" not in " ".join(merged(tmp_path, "a", "same")["cautions"])
    assert "Other held-out text (ridge; mean)" in " ".join(merged(tmp_path, "a", "other")["cautions"])
    # Another tokenizer makes another pack of any text, so that nothing is known of it.
    assert "Other held-out text" not in " ".join(merged(tmp_path, "a", "tokens")["cautions"])


def test_another_way_of_measuring_is_stated(outputs, tmp_path) -> None:
    outputs("a").arm("ridge-seed1", RIDGE)
    outputs("b").arm("ridge-seed1", RIDGE, final={"window": 64})
    assert "window 128; b/ridge: window 64" in " ".join(merged(tmp_path, "a", "b")["cautions"])


def test_another_precision_of_training_is_stated(outputs, tmp_path) -> None:
    outputs("a").arm("ridge-seed1", RIDGE, summary={"precision": "bf16"})
    outputs("same").arm("fvt-seed1", RIDGE, summary={"precision": "bf16"})
    outputs("other").arm("mean-seed1", RIDGE, summary={"precision": "fp32"})
    assert "precision" not in " ".join(merged(tmp_path, "a", "same")["cautions"])
    assert "precisions (bf16: ridge; fp32: mean)" in " ".join(merged(tmp_path, "a", "other")["cautions"])


def test_kept_numbers_compare_with_new_runs(two, tmp_path) -> None:
    report(find([tmp_path / "outputs/a"], tmp_path / "comparison"))
    kept = tmp_path / "results" / "old"
    kept.mkdir(parents=True)
    (kept / "results.json").write_text((tmp_path / "comparison/results.json").read_text())
    results = results_of(find([kept, tmp_path / "outputs/b"], tmp_path / "again"))
    assert list(results["arms"]) == ["b/scratch", "b/ridge", "old/scratch", "old/ridge"]
    assert results["tokens_saved"]["old/ridge"]["saved"] == pytest.approx(0.8)
    assert results["tokens_saved"]["old/ridge"]["saved_flops_counting_the_helper"] == pytest.approx(0.7)


@pytest.mark.parametrize(
    ("arms", "reason"),
    [
        ([1], "holds no arms"),
        ({}, "holds no arms"),
        ({"scratch": []}, "has no seeds of it"),
        ({"scratch": {"seeds": {}}}, "has no seeds of it"),
        ({"scratch": {"seeds": {"1": 3}}}, "does not hold what it should"),
        ({"scratch": {"seeds": {"1": {"summary": {"flops": 1}, "curve": [{"tokens": 0}]}}}}, "it has no tokens"),
        ({"scratch": {"seeds": {"1": {"summary": {"tokens": 1}, "curve": []}}}}, "it has no flops and no curve"),
        ({"scratch": {"seeds": {"1": {"summary": {"tokens": 1, "flops": 1}, "curve": [{}]}}}}, "KeyError 'tokens'"),
    ],
)
def test_broken_kept_numbers_are_told_and_lose_nothing_else(two, tmp_path, arms, reason) -> None:
    kept = tmp_path / "broken"
    kept.mkdir()
    (kept / "results.json").write_text(json.dumps({"arms": arms}))
    with pytest.raises(UserError, match=rf"(?s)no arm can be read.*{reason}"):
        results_of(find([kept], tmp_path / "out"))
    results = results_of(find([kept, tmp_path / "outputs/a"], tmp_path / "out"))
    assert [name.split("/")[-1] for name in results["arms"]] == ["scratch", "ridge"]
    assert len(results["left_out"]) == 1 and reason in results["left_out"][0]["reason"]


def test_kept_numbers_of_which_one_seed_is_broken_keep_the_others(two, tmp_path) -> None:
    found = merged(tmp_path, "a")
    found["arms"]["scratch"]["seeds"]["2"] = {"final": {"bits_per_byte": None}, "curve": None}
    found["arms"]["ridge"]["seeds"]["1"]["final"]["bits_per_byte"] = None
    (tmp_path / "old").mkdir()
    (tmp_path / "old/results.json").write_text(json.dumps(found))
    results = results_of(find([tmp_path / "old"], tmp_path / "out"))
    assert results["seeds"] == [1] and results["tokens_saved"]["ridge"]["saved"] == pytest.approx(0.8)
    assert results["arms"]["ridge"]["final"] == {}
    told = {row["run"]: row["reason"] for row in results["left_out"]}
    assert "curve" in told["old: scratch, seed 2"] and "no perplexity" in told["old: ridge, seed 1"]


def test_an_evaluation_of_another_model_is_told(two, outputs, tmp_path) -> None:
    other = outputs("other")
    other.stage("evaluations/SmolLM2-135M", {"results.json": {"perplexity": {}}})
    with pytest.raises(UserError, match=r"other: SmolLM2-135M: an evaluation of a model that no run") as error:
        results_of(find([other.root], tmp_path / "out"))
    assert "experiment's `arms`" not in str(error.value)
    assert [row["run"] for row in merged(tmp_path, "a", "other")["left_out"]] == ["other: SmolLM2-135M"]
    two[0].stage("evaluations/source", {"results.json": {"perplexity": {}}})
    two[0].stage("runs/source", {"summary.json": {}})
    assert merged(tmp_path, "a")["left_out"] == []


def test_a_merged_report_can_be_merged_again(two, tmp_path) -> None:
    first = merged(tmp_path, "a", "b")
    (tmp_path / "old").mkdir()
    (tmp_path / "old/results.json").write_text(json.dumps(first))
    again = results_of(find([tmp_path / "old"], tmp_path / "out"))
    assert list(again["arms"]) == list(first["arms"])
    for name in first["tokens_saved"]:
        for part in ("saved", "saved_flops", "saved_flops_counting_the_helper", "reference"):
            assert again["tokens_saved"][name][part] == first["tokens_saved"][name][part], (name, part)


def test_the_numbers_in_this_repository_still_make_a_page(tmp_path) -> None:
    kept = Path(__file__).resolve().parents[2] / "results" / "mini"
    found = json.loads((kept / "results.json").read_text())
    results = report(find([kept], tmp_path / "out"))
    assert {n: a["final"] for n, a in results["arms"].items()} == {n: a["final"] for n, a in found["arms"].items()}
    for name, saved in found["tokens_saved"].items():
        assert results["tokens_saved"][name]["saved"] == pytest.approx(saved["saved"])
        helper = "saved_flops_counting_the_helper"
        assert results["tokens_saved"][name][helper] == pytest.approx(saved[helper])
    assert results["step0"] == found["step0"]


def test_the_command_and_its_mistakes(two, tmp_path) -> None:
    command = [sys.executable, "-m", "clp_transfer.report", "outputs/a", "outputs/b", "-o", "both"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and "report: both/index.html" in done.stdout
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert "nothing to do" in again.stdout
    wrong = subprocess.run([*command[:3], "outputs/c"], cwd=tmp_path, capture_output=True, text=True)
    assert wrong.returncode == 2
    assert "outputs/c does not exist" in wrong.stderr and "Traceback" not in wrong.stderr
