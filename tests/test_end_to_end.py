"""Every stage end to end, as a user runs them: the whole pipeline on tiny wheels, twice, changed, and killed."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tiny.gguf_file import make_llama, write_gguf
from tiny.wheels import LABELS, dictionary, leads, write_wheel

from clp_transfer.prepare.bpe import train_bpe

ROOT = Path(__file__).resolve().parents[1]
ARMS = ["scratch", "clp", "fvt"]


def overrides(folder: Path) -> list[str]:
    """The miniature with tiny wheels, tiny models and a few hundred tokens."""
    cache = folder / "cache"
    tokenizer = train_bpe(["the river under a bridge der Fluss über die Brücke"] * 3, 280, name="model")
    write_gguf(folder / "model.gguf", make_llama(280), tokenizer)
    wheels = {
        "corpora.en.sources.wikipedia.wheel": write_wheel(cache, "leads-en", "leads.json", leads()),
        "corpora.de.sources.wiktionary.wheel": write_wheel(cache, "words-de", "glosses.gz", dictionary(500)),
        "models.smollm2": write_wheel(cache, "model-en", "model.gguf", (folder / "model.gguf").read_bytes()),
    }
    fields = [f"data.{at}.{k}={v}" for at, wheel in wheels.items() for k, v in vars(wheel).items() if k != "licence"]
    tiny = (
        "{hidden_size: 16, intermediate_size: 32, num_hidden_layers: 1, num_attention_heads: 2, num_key_value_heads: 2}"
    )
    return [
        *("experiment=mini", "name=tiny", f"paths.outputs={folder}/outputs", f"paths.cache={cache}"),
        *fields,
        *("data.corpora.en.validation_bytes=2000", "data.corpora.de.validation_bytes=3000"),
        *("data.tokenizers.source.vocab_size=320", "data.tokenizers.target.vocab_size=340"),
        *(f"data.domain_task.labels={LABELS}".replace("'", ""), "data.domain_task.documents=20"),
        *(f"arms=[{','.join(ARMS)}]", "step0_methods=[clp,mean]", f"architecture.fields={tiny}"),
        *("budget.tokens=1500", "budget.batch_tokens=128", "budget.sequence_length=32", "optim.lr=1e-3"),
        *("validation.points=3", "validation.max_bytes=1500", "train.log_seconds=0", "train.precision=fp32"),
        *("evaluate.max_bytes=2000", "evaluate.window=32", "evaluate.step0_bytes=800", "evaluate.step0_window=32"),
        *("evaluate.prompts=[der Fluss]", "evaluate.sample_tokens=4", "wandb.mode=disabled"),
    ]


def start(folder: Path, *more: str) -> subprocess.Popen:
    command = [sys.executable, str(ROOT / "scripts" / "reproduce.py"), *overrides(folder), *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def run(folder: Path, *more: str) -> str:
    process = start(folder, *more)
    printed, _ = process.communicate()
    assert process.returncode == 0, printed[-4000:]
    return printed


def results(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "outputs/tiny/report/results.json").read_text())


def numbers(found: dict[str, Any]) -> dict[str, Any]:
    """The results without what differs from run to run: when and how long."""
    return {part: found[part] for part in ("step0", "tasks", "tokens_saved")} | {
        arm: (record["curve"], record["final"], record["samples"]) for arm, record in found["arms"].items()
    }


class Whole(NamedTuple):
    """What the tests share; they run in the order of this file, and some change the folder."""

    folder: Path
    printed: str
    found: dict[str, Any]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """One uninterrupted run: its folder, what it printed, and its results before any test changes them."""
    folder = tmp_path_factory.mktemp("whole")
    printed = run(folder)
    return Whole(folder, printed, results(folder))


@pytest.mark.slow
def test_the_report_has_everything(whole: Whole) -> None:
    folder, printed, found = whole
    assert set(found["arms"]) == set(ARMS)
    for arm in ARMS:
        curve = found["arms"][arm]["curve"]
        assert [point["tokens"] for point in curve] == [0, 512, 1024, 1536]
        assert curve[-1]["bits_per_byte"] < curve[0]["bits_per_byte"]
        if arm != "scratch":
            assert {"saved", "reference_bits_per_byte", "arm_tokens"} <= set(found["tokens_saved"][arm])
    assert set(found["step0"]["smollm2"]) == {"own_tokenizer", "clp", "mean"}
    page = (folder / "outputs/tiny/report/index.html").read_text()
    assert "<svg" in page and all(arm in page for arm in ARMS)
    assert "bits" in printed and "index.html" in printed


@pytest.mark.slow
def test_again_it_does_nothing_and_a_change_reruns_only_what_depends_on_it(whole: Whole) -> None:
    folder = whole.folder
    assert "Nothing to do" in run(folder)
    stages = {p: p.stat().st_mtime_ns for p in (folder / "outputs/tiny").rglob("manifest.json")}
    run(folder, "evaluate.sample_tokens=5")
    changed = {p.parent.name for p, at in stages.items() if p.stat().st_mtime_ns != at}
    assert changed == {f"{arm}-seed1" for arm in ARMS} | {"report"}
    parents = {p.parent.parent.name for p, at in stages.items() if p.stat().st_mtime_ns != at}
    assert parents == {"evaluations", "tiny"}


@pytest.mark.slow
def test_more_seeds_give_means_and_intervals(whole: Whole) -> None:
    """Only the new seed's steps run; every arm then has two curves and their mean."""
    folder = whole.folder
    printed = run(folder, "seeds=[1,2]", "arms=[scratch,fvt]")
    assert re.search(r"^train fvt 2\s*▶", printed, re.MULTILINE)
    assert not re.search(r"^train fvt 1\s*▶", printed, re.MULTILINE)
    for arm in results(folder)["arms"].values():
        one, two = (arm["seeds"][seed]["curve"][-1]["bits_per_byte"] for seed in ("1", "2"))
        assert one != two
        assert arm["curve"][-1]["bits_per_byte"] == pytest.approx((one + two) / 2)


@pytest.mark.slow
def test_killed_anywhere_it_ends_the_same(whole: Whole, tmp_path: Path) -> None:
    """kill -9 three times: while the data is made, while the source is trained, while the arms are."""
    checkpoint = "checkpoints/step-[4-9]"
    for pattern in (
        "data.partial/plan.json",
        f"runs/source.partial/{checkpoint}",
        f"runs/*-seed1.partial/{checkpoint}",
    ):
        process = start(tmp_path, "train.checkpoint_minutes=0")
        for _ in range(3000):
            if list((tmp_path / "outputs/tiny").glob(pattern)) or process.poll() is not None:
                break
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    printed = run(tmp_path)
    assert "going on from step" in printed
    assert numbers(results(tmp_path)) == numbers(whole.found)
    assert not list((tmp_path / "outputs").rglob("*.partial"))


@pytest.mark.slow
def test_the_stages_as_a_person_types_them(whole: Whole) -> None:
    """Each script on its own, on what the pipeline left, has nothing to do and says so."""
    folder = whole.folder
    for command in (["prepare.py"], ["clp.py", "method=clp"], ["train.py", "method=clp"], ["train.py", "run=source"]):
        done = subprocess.run(
            [sys.executable, str(ROOT / command[0]), *overrides(folder), *command[1:]], capture_output=True, text=True
        )
        assert done.returncode == 0 and "nothing to do" in done.stdout, done.stdout + done.stderr


@pytest.mark.slow
def test_a_sweep_keeps_its_members_apart(whole: Whole) -> None:
    folder = whole.folder
    members = ["method=clp,fvt", "optim.lr=5e-4,2e-3", "budget.tokens=256"]
    command = [sys.executable, str(ROOT / "train.py"), "-m", *overrides(folder), *members]
    command.remove("optim.lr=1e-3")
    command.remove("budget.tokens=1500")
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    rates = {}
    for summary in (folder / "outputs/tiny/runs").glob("*-seed1,*/summary.json"):
        rates[summary.parent.name.partition(",")[0], json.loads(summary.read_text())["lr"]] = True
    assert set(rates) == {(f"{arm}-seed1", lr) for arm in ("clp", "fvt") for lr in (5e-4, 2e-3)}
