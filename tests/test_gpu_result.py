"""scripts/gpu_result.sh, all of it on tiny files: parts gathered and joined, a leg killed, one stopped, the rest."""

from __future__ import annotations

import json
import lzma
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tiny.gguf_file import make_llama, write_gguf
from tiny.wheels import GERMAN, leads, sentences, write_wheel

from clp_transfer.files import write_json
from clp_transfer.prepare.bpe import train_bpe

ROOT = Path(__file__).resolve().parents[1]
NAME = "smollm2-135m-german"
TINY = "{hidden_size:16,intermediate_size:32,num_hidden_layers:1,num_attention_heads:2,num_key_value_heads:2}"


class Bench:
    """The two machines in one folder: here the texts, there the parts; both run the script of this checkout."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.outputs, self.results, self.inputs = root / "outputs", root / "results", root / "inputs"
        self._texts(root / "here", sentences(GERMAN, 700, 5))
        self.settings = self._settings(root / "cache")
        self.environment = {
            **os.environ,
            **{"PYTHON": sys.executable, "OUTPUTS": str(self.outputs), "RESULTS": str(self.results)},
            **{"INPUTS": str(self.inputs), "ABLATIONS": "german-embedding-tuning", "SEEDS": "1", "MARGIN": "1"},
            **{"PART_BYTES": "20000", "ARGS": " ".join(self.settings), "OMP_NUM_THREADS": "1"},
        }

    @staticmethod
    def _texts(folder: Path, texts: list[str]) -> None:
        (folder / "eval").mkdir(parents=True)
        speeches = [{"id": f"bundestag-19{i // 50:02}{i % 50:05}", "text": text} for i, text in enumerate(texts[:500])]
        parts = [{"id": f"DEU{i // 20:03}-{i % 20}", "text": text} for i, text in enumerate(texts[500:650])]
        for name, rows in {"bundestag": speeches, "eltec_deu": parts}.items():
            with lzma.open(folder / f"{name}.jsonl.xz", "wt") as file:
                file.writelines(f"{json.dumps(row)}\n" for row in rows)
        news = [{"text": text, "label": i % 9} for i, text in enumerate(texts[650:])]
        (folder / "eval/gnad10_test.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in news))

    def _settings(self, cache: Path) -> list[str]:
        """Overrides without a space in them: ARGS is cut at spaces."""
        tokenizer = train_bpe(["the river under a bridge der Fluss über die Brücke"] * 3, 280, name="model")
        write_gguf(self.root / "model.gguf", make_llama(280), tokenizer)
        wheels = {
            "corpora.en.sources.wikipedia.wheel": write_wheel(cache, "leads-en", "leads.json", leads()),
            "models.smollm2": write_wheel(cache, "model-en", "model.gguf", (self.root / "model.gguf").read_bytes()),
        }
        fields = [f"data.{at}.{k}={v}" for at, one in wheels.items() for k, v in vars(one).items() if k != "licence"]
        return [
            *fields,
            *("data.corpora.target.validation_bytes=3000", "data.corpora.en.validation_bytes=2000"),
            *("data.tokenizers.target.vocab_size=300", f"architecture.fields={TINY}"),
            *("arms=[scratch,own]", "step0_methods=[mean]", "ablation.arms=[own]"),
            *("tuning_rates=[1e-3]", "tuning_tokens=64"),
            *("budget.tokens=512", "budget.batch_tokens=64", "budget.sequence_length=32", "budget.micro_batch=2"),
            *("train.precision=fp32", "train.threads=1", "train.checkpoint_minutes=0", "pipeline.workers=2"),
            *("validation.points=2", "validation.max_bytes=1000", "tasks=[clp_gnad10]", "limit=9"),
            *("evaluate.max_bytes=1000", "evaluate.window=32", "evaluate.step0_window=32", "evaluate.step0_bytes=500"),
            *("evaluate.threads=1", "evaluate.bootstrap=20", "evaluate.sample_tokens=2", "evaluate.prompts=[Fluss]"),
        ]

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(ROOT / "scripts/gpu_result.sh"), *arguments],
            env=self.environment | environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def run(self, *arguments: str, status: int = 0, **environment: str) -> str:
        process = self.start(*arguments, **environment)
        printed, _ = process.communicate()
        assert process.returncode == status, printed[-4000:]
        return printed

    def wait_for(self, process: subprocess.Popen[str], pattern: str) -> None:
        """Until a file below the outputs matches."""
        for _ in range(3000):
            if list((self.outputs / NAME).glob(pattern)) or process.poll() is not None:
                break
            time.sleep(0.02)
        assert process.poll() is None, process.communicate()[0][-4000:]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("gpu"))


@pytest.mark.slow
def test_inputs_travel_in_small_parts(bench: Bench) -> None:
    here = bench.root / "here"
    bench.run("inputs", TEXTS=str(here), CACHE=str(bench.root / "cache"))
    parts = sorted(path.name for path in bench.inputs.glob("*.part-*"))
    assert {name.rpartition(".part-")[0] for name in parts} == {
        "texts@bundestag.jsonl.xz", "texts@eltec_deu.jsonl.xz", "texts@eval@gnad10_test.jsonl",
        "cache@leads_en-1.0-py3-none-any.whl", "cache@model_en-1.0-py3-none-any.whl",
    }  # fmt: skip
    assert len(parts) > 5 and all((bench.inputs / name).stat().st_size <= 20000 for name in parts)
    damaged = bench.inputs / parts[0]
    content = damaged.read_bytes()
    damaged.write_bytes(content[:-1])
    assert parts[0] in bench.run("leg", "30", status=2) and not (bench.outputs / "inputs/joined").exists()
    damaged.write_bytes(content)


@pytest.mark.slow
def test_killed_and_stopped_it_goes_on_to_the_same_end(bench: Bench) -> None:
    """kill -9 while rates are looked for, SIGTERM while arms are trained, then as many legs as it takes."""
    process = bench.start("leg")
    bench.wait_for(process, "runs/*tune*.partial")
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()  # returns when the last of its children has gone
    process = bench.start("leg")
    bench.wait_for(process, "runs/scratch-seed1.partial/checkpoints/step-[2-6]")
    process.terminate()
    printed, _ = process.communicate()
    assert process.returncode == 75 and "not complete" in printed, printed[-3000:]
    assert "   first-seed" in printed and "   rates" not in printed
    assert "steps are left" in printed
    assert list((bench.outputs / NAME).glob("runs/*.partial/checkpoints/step-*/complete.json"))
    assert "complete" in bench.run("leg", "600").splitlines()[-1]
    for source in ("bundestag.jsonl.xz", "eval/gnad10_test.jsonl"):
        joined = bench.outputs / "inputs/texts" / source
        assert joined.read_bytes() == (bench.root / "here" / source).read_bytes()
    assert "going on from step" in "".join(
        path.read_text() for path in (bench.outputs / NAME / "logs").glob("train-*.log")
    )
    started = time.time()
    assert bench.run("leg").splitlines()[-1] == "== complete" and time.time() - started < 10


@pytest.mark.slow
def test_tasks_that_could_not_be_measured_are_told(bench: Bench) -> None:
    """And their chain is gone through again by the next leg."""
    failed = bench.outputs / NAME / "evaluations/other/results.json"
    marks = set(bench.outputs.glob(f"{NAME}/legs/*/*-seed*"))
    write_json(failed, {"tasks": {"clp_gnad10": {"error": "no room"}, "clp_xnli_de": {"error": None}}})
    for mark in marks:
        mark.unlink()
    last = bench.run("leg").splitlines()[-2:]
    assert "could not be measured" in last[0] and last[1].endswith("evaluations/other/results.json")
    assert not any(mark.exists() for mark in marks)
    shutil.rmtree(failed.parent)
    assert bench.run("leg").splitlines()[-1] == "== complete" and all(mark.exists() for mark in marks) and marks


@pytest.mark.slow
def test_what_is_there_in_the_end(bench: Bench) -> None:
    folder = bench.outputs / NAME
    results = read(folder / "report/results.json")
    assert list(results["arms"]) == ["scratch", "own"] == list(read(folder / "tuning.json"))
    assert {arm["lr"] for arm in results["arms"].values()} == {1e-3}
    assert set(results["texts"]) == {"news", "english"} and set(results["tasks"]) == {"clp_gnad10"}
    assert results["arms"]["own"]["final"]["bytes"] == results["arms"]["scratch"]["final"]["bytes"]
    assert results["arms"]["own"]["final"]["tokens"] != results["arms"]["scratch"]["final"]["tokens"]
    assert results["helper_flops"][""] > 0 and not results["tokens_saved"]["own"]["uses_helper"]
    ablation = read(folder / "ablations/embedding-tuning/ablation.json")
    assert [(row["label"], row["arm"]) for row in ablation["rows"]] == [("0", "own"), ("0.1", "own")]


@pytest.mark.slow
def test_what_is_kept_is_numbers_alone(bench: Bench, tmp_path: Path) -> None:
    """Every number that docs/results.md shows, no text, no weights, no place of this machine."""
    before = {path: path.read_bytes() for path in (ROOT / "README.md", ROOT / "docs/results.md")}
    # In a copy of what it reads, so that the checkout stays as it is.
    for name in ("scripts/gpu_result.sh", "README.md", "docs/results.md"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes((ROOT / name).read_bytes())
    (tmp_path / "scripts/gpu_result.sh").chmod(0o755)
    (tmp_path / "src").symlink_to(ROOT / "src")
    kept = tmp_path / "results" / NAME
    done = subprocess.run(
        [tmp_path / "scripts/gpu_result.sh", "keep"],
        env=bench.environment | {"RESULTS": str(kept)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    names = {path.relative_to(kept).as_posix() for path in kept.rglob("*") if path.is_file()}
    assert {"results.json", "settings.json", "step0.json", "helpers.json", "tuning.json", "evaluations.json"} <= names
    assert {"machine.json", "ablations/embedding-tuning.json", "perplexity.png"} <= names
    for path in kept.rglob("*.json"):
        assert str(bench.root) not in path.read_text() and "Brücke" not in path.read_text(), path
    document, readme = ((tmp_path / name).read_text() for name in ("docs/results.md", "README.md"))
    assert document.count("Not measured yet") == len(("helper-size", "vocabulary"))  # the ablations not asked for
    end = read(kept / "results.json")["arms"]["own"]["final"]["bits_per_byte"]
    assert f"{end:.3f}" in document and f"{end:.3f}" in readme
    assert {path: path.read_bytes() for path in before} == before


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
