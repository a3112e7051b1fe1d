"""What README and docs say is what the kept results say, and what is kept is numbers alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from clp_transfer.errors import UserError
from clp_transfer.report import german
from clp_transfer.report.keep import statistics
from clp_transfer.report.marks import UNMEASURED
from clp_transfer.report.publish import keep, main, rebuild
from clp_transfer.report.readme import readme_block, rebuilt_readme, step0_rows

ROOT = Path(__file__).resolve().parents[2]
START, END = "<!-- result -->", "<!-- /result -->"


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def test_readme_and_docs_are_what_the_kept_results_make_of_them(tmp_path: Path) -> None:
    """Made anew from results/, every document is as it is here."""
    shutil.copytree(ROOT / "results", tmp_path / "results")
    (tmp_path / "docs").mkdir()
    documents = [name for name in ("README.md", "docs/results.md", "docs/findings.md") if (ROOT / name).is_file()]
    for name in documents:
        shutil.copyfile(ROOT / name, tmp_path / name)
    written = rebuild(tmp_path)
    assert {tmp_path / "README.md", tmp_path / "docs/results.md"} <= set(written)
    assert tmp_path / "results/mini/perplexity.png" in written
    for name in documents:
        assert (tmp_path / name).read_text() == (ROOT / name).read_text(), f"{name}: make results"


def test_the_pictures_of_ablations_are_drawn_anew_where_they_lie_beside_their_numbers(tmp_path: Path) -> None:
    """One that is not kept is not made, and what is no ablation's is left alone."""
    kept, beside = tmp_path / "results/mini-ablations", tmp_path / "results/other/ablations"
    for folder in (kept, beside):
        folder.mkdir(parents=True)
        for name in ("weights", "method", "reconstruction", "helpers"):
            shutil.copyfile(ROOT / f"results/mini-ablations/{name}.json", folder / f"{name}.json")
    stale = [kept / "weights.png", kept / "reconstruction.png", kept / "helpers.png", beside / "weights.png"]
    for path in stale:
        path.write_bytes(b"stale")
    assert rebuild(tmp_path) == [kept / "weights.png", beside / "weights.png"]
    fresh = (kept / "weights.png").read_bytes()
    assert fresh.startswith(b"\x89PNG") and fresh == (beside / "weights.png").read_bytes(), "same numbers, same bytes"
    assert (kept / "reconstruction.png").read_bytes() == (kept / "helpers.png").read_bytes() == b"stale"
    assert {path.name for path in beside.iterdir() if path.suffix != ".json"} == {"weights.png"}


def test_a_mark_that_nothing_closes_is_told_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(ROOT / "results/mini", tmp_path / "results/mini")
    (tmp_path / "docs").mkdir()
    texts = {"README.md": f"{START}\nold\n{END}\n", "docs/results.md": "a\n<!-- german: arms -->\nold\nrest\n"}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=r"results\.md: line 2: nothing closes <!-- german: arms -->"):
        rebuild(tmp_path)
    assert {name: (tmp_path / name).read_text() for name in texts} == texts
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        main([])
    assert stopped.value.code == 2 and "docs/results.md: line 2" in capsys.readouterr().err


def test_a_number_that_was_changed_by_hand_is_put_right() -> None:
    text = (ROOT / "README.md").read_text()
    found = read(ROOT / "results/mini/results.json")
    final = f"{found['arms']['mean']['final']['bits_per_byte']:.3f}"
    if not (ROOT / "results" / german.NAME / "results.json").is_file():
        assert final in text.partition(START)[2].partition(END)[0]
        assert rebuilt_readme(text.replace(final, "0.001"), ROOT / "results") == text
    step0 = read(ROOT / "results/step0-smollm2/results.json")["bits_per_byte"]["ridge"]
    shown = " / ".join(f"{value:.3f}" for value in step0)
    assert shown in text
    assert step0_rows(text.replace(shown, "9.999"), ROOT / "results/step0-smollm2") == text


def test_the_miniatures_table_has_every_arm() -> None:
    found = read(ROOT / "results" / "mini" / "results.json")
    lines = readme_block(found).splitlines()
    for name, arm in found["arms"].items():
        (row,) = [line for line in lines if line.startswith(f"| `{name}` |")]
        assert f"{arm['final']['bits_per_byte']:.3f}" in row


def test_the_kept_results_hold_no_text_of_the_corpora() -> None:
    for path in (ROOT / "results").glob("*/results.json"):
        assert all("samples" not in arm for arm in read(path).get("arms", {}).values())


def test_statistics_are_kept_without_examples_and_places() -> None:
    files = [{"name": "/home/me/texts/a.jsonl.xz", "licence": "x"}, {"name": "wheel==1!member"}]
    found = {"corpora": {"target": {"train": {"bytes": 3}, "examples": {"short": ["Text"]}, "sources": files}}, "a": 1}
    kept = statistics(found)
    assert kept["corpora"]["target"] == {
        "train": {"bytes": 3}, "sources": [{"name": "a.jsonl.xz", "licence": "x"}, {"name": "wheel==1!member"}],
    }  # fmt: skip
    assert kept["a"] == 1 and "examples" in found["corpora"]["target"]


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    """Step 0 of three seeds, helpers, rates and the untouched source, but no arm trained yet."""
    folder = tmp_path / "outputs"
    for seed, bits in (("1", 3.0), ("2", 3.5), ("3", 2.5)):
        found = {"bytes": 50_000, "bits_per_byte": {"own_tokenizer": 2.75, "ridge": bits, "mean": 3.25}}
        write(folder / f"step0/smollm2,seed{seed}/results.json", found)
        helper = {"parameters": 10_000_000, "tokens": 5_000_000, "seconds": 3660, "final": {"bits_per_byte": 1.5}}
        write(folder / f"runs/helper,seed{seed}/summary.json", helper)
    write(folder / "tuning.json", {"clp": {"0.001": 4.0, "0.003": 3.5, "0.01": None}, "mean": {"0.001": 3.0}})
    texts = {"news": {"bits_per_byte": 2.125}, "english": {"bits_per_byte": 0.875}}
    write(folder / "evaluations/smollm2/results.json", {"texts": texts, "tasks": {}, "samples": [{"text": "Es"}]})
    return folder


def test_step0_is_kept_and_shown_before_any_arm_is_trained(experiment: Path, tmp_path: Path) -> None:
    kept = tmp_path / "results" / german.NAME
    keep(experiment, kept)
    assert {path.name for path in kept.iterdir()} == {"step0.json", "helpers.json", "tuning.json", "evaluations.json"}
    assert "samples" not in (kept / "evaluations.json").read_text()
    rows = german.block("step0", kept).splitlines()
    assert rows[2:5] == ["| own tokenizer | 2.750 |", "| `ridge` | 3.000 / 3.500 / 2.500 |", "| `mean` | 3.250 |"]
    assert "| `helper,seed2` | 10,000,000 | 5,000,000 | 61 | 1.500 |" in german.block("helpers", kept)
    assert "| `clp` | 4.0000 | **3.5000** | – |" in german.block("rates", kept)
    assert german.block("arms", kept) == german.block("helper-size", kept) == UNMEASURED


def test_the_arms_table_says_what_the_numbers_say(experiment: Path, tmp_path: Path) -> None:
    """Made-up arms: every column is where its number is, the untouched source is the last row."""
    kept = tmp_path / "results" / german.NAME
    keep(experiment, kept)
    curve = [{"tokens": 0, "bits_per_byte": 3.0}, {"tokens": 8, "bits_per_byte": 1.0}]
    plain = {
        "lr": 0.001,
        "curve": curve,
        "final": {"bits_per_byte": 1.25},
        "final_bits_per_byte_interval": [1.15, 1.35],
    }
    arms = {"scratch": {**plain, "seeds": {"1": {}, "2": {}}}, "clp": {**plain, "seeds": {"1": {}}}}
    saving = {
        "saved": 0.85,
        "reached": True,
        "intervals": {"saved": [0.80, 0.90]},
        "arm_tokens": 3,
        "uses_helper": True,
    }
    saving |= {"saved_flops_counting_the_helper": 0.5, "reference_bits_per_byte": 1.0, "seeds": {"1": {}}}
    texts = {"news": {"clp": {"bits_per_byte": 1.5}}, "english": {"clp": {"bits_per_byte": 4.5}}}
    row = {"acc": 0.25, "stderr": 0.01, "distinguishable": True}
    task = {"clp": row, "scratch": {**row, "distinguishable": False}, "baselines": {"random": {"acc": 0.125}}}
    found = {"arms": arms, "tokens_saved": {"clp": saving}, "texts": texts, "tasks": {"clp_gnad10": task}}
    write(kept / "results.json", found)
    table = german.block("arms", kept).splitlines()
    assert "| `clp` | 1 | 0.001 | 3.000 | 1.250 ± 0.100 | 1.500 | 4.500 | 85% ± 5 | 50% |" in table
    assert "| untouched source |  |  |  |  | 2.125 | 0.875 |  |  |" in table
    assert "85%" in (said := german.block("headline", kept)) and "holds here" in said and "80% to 90%" in said
    tasks = german.block("tasks", kept).splitlines()
    assert {"| `clp` | 25% ± 2 |", "| `scratch` | (25% ± 2) |", "| guessing | 12% |"} <= set(tasks)
    assert german.readme_block(kept) in rebuilt_readme(f"a\n{START}\nold\n{END}\nb", tmp_path / "results")
    # Keeping the source's tokenizer is no transfer: what it saves is said, the claim is not about it.
    found["arms"]["own"] = {**plain, "seeds": {"1": {}}}
    low = {"saved": 0.3, "intervals": {}}
    found["tokens_saved"] = {"clp": {**saving, **low}, "own": {**saving, "saved": 0.9, "intervals": {}}}
    write(kept / "results.json", found)
    for said in (german.block("headline", kept), german.readme_block(kept)):
        assert "**clp reaches" in said and "fewer steps, is not reached here: 30%" in said and "holds" not in said
        assert "own tokenizer (own) needs 10% of the tokens, saving 90%, better than the best transfer, clp." in said


def test_the_readmes_result_is_all_of_one_experiment(tmp_path: Path) -> None:
    """Heading, introduction, table and pictures change together, whichever of the two results is kept."""
    results = tmp_path / "results"
    shutil.copytree(ROOT / "results/mini", results / "mini")
    before, after = "before\n\n", "\n\n### after\n"
    small = rebuilt_readme(f"{before}{START}\nold\n{END}{after}", results)
    assert small.startswith(before) and small.endswith(after) and "old" not in small
    assert "## Result: the miniature\n" in small and "0.5 M tokens of Wiktionary; two cores, one seed." in small
    kept = results / german.NAME
    write(kept / "machine.json", {"gpu": "NVIDIA H200"})
    found = read(ROOT / "results/mini/results.json")
    for arm in found["arms"].values():
        arm["curve"][-1]["tokens"] = 41_943_040
        arm["final_bits_per_byte_interval"] = None
    found["arms"]["clp"]["seeds"] |= {"2": {}, "3": {}}
    write(kept / "results.json", found)
    (kept / "perplexity.png").write_bytes(b"a picture")
    large = rebuilt_readme(small, results)
    assert large.startswith(before) and large.endswith(after)
    for gone in ("miniature", "Wiktionary", "two cores", "results/mini/", "paper.png"):
        assert gone in small and gone not in large, gone
    assert "## Result: SmolLM2-135M becomes German\n" in large
    assert "41.9 M tokens of speeches and novels; one NVIDIA H200, one to three seeds." in " ".join(large.split())
    assert f'<img src="results/{german.NAME}/perplexity.png"' in large and german.readme_block(kept) in large
    shutil.rmtree(kept)
    assert rebuilt_readme(large, results) == small


def test_the_readme_is_short_and_names_every_file_it_shows() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) < 250
    tree = text.partition("## Files\n```\n")[2].partition("```")[0]
    for line in tree.splitlines():
        first = line.split()[0]
        if "*" not in first and "|" not in first:
            assert (ROOT / first).exists(), first
