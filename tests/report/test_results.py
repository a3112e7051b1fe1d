"""`results.json`: the keys that others rely on, and their values."""

from __future__ import annotations

import json
import math
import shutil

import pytest

from clp_transfer.clp.job import MethodConfig
from clp_transfer.config.jobs import report_job
from clp_transfer.config.schema import Config, PathsConfig
from clp_transfer.errors import UserError
from clp_transfer.report.assemble import assemble
from clp_transfer.report.collect import collect
from clp_transfer.report.run import report, stands


def results_of(job):
    return assemble(job, collect(job))


def strict(path):
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


def test_fixed_keys(full, no_figures) -> None:
    returned = report(full.job())
    results = strict(full.root / "report/results.json")
    assert results == json.loads(json.dumps(returned))
    assert results["arms"]["ridge"]["curve"][1]["tokens"] == 100
    keys = {"tokens", "nats_per_token", "token_perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte"}
    assert all(set(p) == keys for arm in results["arms"].values() for p in arm["curve"])
    saved = results["tokens_saved"]["ridge"]
    assert saved["saved"] == pytest.approx(0.8)
    # Helper: 1000 FLOPs; ridge 200 tokens of 10; scratch 1000 of 10.
    assert saved["saved_flops_counting_the_helper"] == pytest.approx(0.7)
    assert set(results["tokens_saved"]) == {"ridge", "clp"}
    assert results["tokens_saved"]["clp"]["saved"] is None
    assert results["step0"]["smollm2"] == {"own_tokenizer": 2.38, "ridge": 2.59, "clp": 13.9}
    assert results["tasks"]["domains"]["ridge"]["acc"] == 0.31
    assert results["tasks"]["domains"]["random"]["acc"] == 0.111
    assert results["tasks"]["domains"]["majority"]["acc"] == 0.163
    assert results["provenance"]["packages"]["torch"]
    assert results["config"]["seed"] == 1


def test_an_arm_named_like_a_baseline_keeps_its_own_accuracy(full, task_results) -> None:
    full.arm("random", [(0, 3.0), (1000, 1.9)], tasks=task_results(0.2, False))
    domains = results_of(full.job())["tasks"]["domains"]
    assert domains["random"]["acc"] == 0.2
    assert domains["baselines"]["random"]["acc"] == 0.111


def test_cost_adds_up(full) -> None:
    cost = results_of(full.job())["cost"]
    rows = {row["stage"]: row for row in cost["rows"]}
    assert rows["train the arms"]["tokens"] == 3000
    assert rows["train the arms"]["flops"] == 30000
    assert rows["train the arms"]["minutes"] == pytest.approx(3.0)
    assert rows["train the helper"]["minutes"] == pytest.approx(0.5)
    assert cost["total"]["flops"] == 31000


def test_a_helper_for_every_seed_is_one_row_of_the_cost_and_the_first_is_an_arms(full) -> None:
    first = full.ingredients["helper"]
    for seed, flops in ((3, 2000.0), (5, 4000.0)):
        summary = {"tokens": 500, "flops": flops, "seconds": 60.0}
        full.ingredients[f"helper,seed{seed}"] = full.write(f"helper{seed}/summary.json", summary).parent
    full.ingredients["helper,seed9"] = first.with_name("gone")
    results = results_of(full.job())
    (row,) = [row for row in results["cost"]["rows"] if "helper" in row["stage"]]
    expected = {"stage": "train the helper", "runs": 3, "tokens": 1500, "flops": 7000, "minutes": pytest.approx(2.5)}
    assert row == expected and results["helper_flops"] == {"": 1000.0}


def test_the_report_has_the_helpers_of_its_own_seeds(tmp_path) -> None:
    """Also without seed 1, which the config's own `helper` names: SEEDS=2,3 of a larger experiment."""

    def config(*seeds: int, helper: str = "one/runs/helper,seed1/model") -> Config:
        return Config(
            name="one", method=MethodConfig("clp"), source="some/model", helper=str(tmp_path / helper),
            paths=PathsConfig(str(tmp_path)), arms=["scratch"], seeds=list(seeds),
        )  # fmt: skip

    def found(*seeds: int, **named: str) -> list[tuple[str, str]]:
        return [(key, path.name) for key, path in report_job(config(*seeds, **named)).ingredients.items()]

    assert found(1, 2) == []
    for seed in (2, 3, 10):
        path = tmp_path / f"one/runs/helper,seed{seed}/summary.json"
        path.parent.mkdir(parents=True)
        path.write_text("{}")
    assert found(2, 3) == [("helper", "helper,seed2"), ("helper,seed3", "helper,seed3")]
    assert found(1, 10, 3) == [("helper", "helper,seed10"), ("helper,seed3", "helper,seed3")]
    # A helper of another experiment is the one that is named, whatever lies beside it.
    shutil.copytree(tmp_path / "one", tmp_path / "other")
    assert found(2, 3, helper="other/runs/helper,seed3/model") == [("helper", "helper,seed3")]
    assert found(2, 3, helper="one/runs/helper,seed3/model") == [("helper", "helper,seed3")]


def test_seeds(folders) -> None:
    for seed, end in ((1, 1.6), (2, 1.8)):
        folders.arm("scratch", [(0, 3.0), (1000, 2.0)], seed)
        folders.arm("fvt", [(0, 3.0), (1000, end)], seed)
    results = results_of(folders.job())
    arm = results["arms"]["fvt"]
    assert arm["curve"][-1]["bits_per_byte"] == pytest.approx(1.7)
    assert arm["final"]["bits_per_byte"] == pytest.approx(1.7)
    assert arm["seeds"]["2"]["curve"][-1]["bits_per_byte"] == 1.8
    low, high = arm["intervals"][-1]["bits_per_byte"]
    assert low < 1.6 and high > 1.8
    # Crossings at 1000 / 1.4 and 1000 / 1.2 tokens.
    assert results["tokens_saved"]["fvt"]["saved"] == pytest.approx(1 - (1 / 1.4 + 1 / 1.2) / 2)


def test_a_diverged_arm_is_null_not_nan(folders) -> None:
    folders.arm("scratch", [(0, 3.0), (1000, 2.0)])
    folders.arm("clp", [(0, 3.0), (1000, math.nan)])
    report(folders.job())
    results = strict(folders.root / "report/results.json")
    assert results["arms"]["clp"]["curve"][-1]["bits_per_byte"] is None
    assert results["tokens_saved"]["clp"]["reached"] is False


def test_a_step_validated_twice_counts_once(folders) -> None:
    run = folders.arm("scratch", [(0, 3.0), (1000, 2.0)])
    path = run.run / "metrics.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, lines[-1].replace('"bits_per_byte": 2.0', '"bits_per_byte": 1.9')]) + "\n")
    assert [p["bits_per_byte"] for p in results_of(folders.job())["arms"]["scratch"]["curve"]] == [3.0, 1.9]


def test_what_the_stage_did_not_record_is_worked_out(full) -> None:
    first = results_of(full.job())["arms"]["scratch"]["curve"][0]
    assert first["bits_per_byte"] == 3.0
    assert first["byte_perplexity"] == pytest.approx(8.0)


def test_flops_saved_by_hand(full) -> None:
    saved = results_of(full.job())["tokens_saved"]["ridge"]
    # 200 of 1000 tokens at 10 FLOPs each.
    assert (saved["arm_flops"], saved["scratch_flops"]) == (pytest.approx(2000), pytest.approx(10_000))
    assert saved["saved_flops"] == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("lines", "reason"),
    [('{"kind": "validation"\n', "line 1 is not JSON"), ('{"kind": "train"}\n', "no validation record")],
)
def test_a_broken_run_is_told_and_does_not_lose_the_others(full, no_figures, lines, reason) -> None:
    (full.arms[1].run / "metrics.jsonl").write_text(lines)
    results = report(full.job())
    assert set(results["arms"]) == {"scratch", "clp"}
    assert [row["run"] for row in results["left_out"]] == ["ridge, seed 1"]
    assert "metrics.jsonl" in results["left_out"][0]["reason"] and reason in results["left_out"][0]["reason"]
    page = (full.root / "report/index.html").read_text()
    assert reason in page and "<strong>ridge, seed 1</strong>" in page


@pytest.mark.parametrize("content", ["[]", "{}", "no JSON", '{"tokens": "many", "flops": 1}'])
def test_a_broken_summary_loses_one_run_only(full, no_figures, content) -> None:
    (full.arms[1].run / "summary.json").write_text(content)
    results = report(full.job())
    assert set(results["arms"]) == {"scratch", "clp"}
    assert "summary.json" in results["left_out"][0]["reason"]


def test_a_run_without_an_evaluation_keeps_its_curve(full, no_figures) -> None:
    (full.arms[1].evaluation / "results.json").unlink()
    results = report(full.job())
    assert results["arms"]["ridge"]["final"] == {}
    assert results["tokens_saved"]["ridge"]["saved"] == pytest.approx(0.8)
    assert "not evaluated" in results["left_out"][0]["reason"]


def test_a_report_is_made_again_when_a_missing_run_is_there(full, no_figures) -> None:
    ridge = full.arms[1].run
    ridge.rename(ridge.with_name("away"))
    report(full.job())
    assert stands(full.job())
    ridge.with_name("away").rename(ridge)
    assert not stands(full.job())


def test_no_arm_or_a_double_one_is_refused(full, no_figures) -> None:
    with pytest.raises(UserError, match="listed twice"):
        report(full.job(arms=[*full.arms, full.arms[0]]))
    with pytest.raises(UserError, match="no arms"):
        report(full.job(arms=[]))
    for arm in full.arms:
        (arm.run / "summary.json").unlink()
    with pytest.raises(UserError, match=r"(?s)no arm can be read.*summary\.json does not exist"):
        report(full.job())
    assert not (full.root / "report").exists()


def test_a_folder_of_something_else_is_not_replaced(full) -> None:
    full.write("thesis/chapter.json", "mine")
    with pytest.raises(UserError, match="no report"):
        report(full.job("thesis"))
    assert (full.root / "thesis/chapter.json").exists()
