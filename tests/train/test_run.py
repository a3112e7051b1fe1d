"""The stage end to end: a model comes out, a killed run ends like an uninterrupted one, mistakes are named."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from clp_transfer.errors import UserError
from clp_transfer.evaluate.perplexity import measure
from clp_transfer.manifest import is_complete
from clp_transfer.packed import PackedCorpus
from clp_transfer.train import loop
from clp_transfer.train.batches import Batches
from clp_transfer.train.job import (
    ArchitectureConfig,
    BudgetConfig,
    DeepSpeedConfig,
    OptimConfig,
    PhasesConfig,
    TrainConfig,
)
from clp_transfer.train.run import train


def records(folder: Path, kind: str) -> list[dict]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [r for line in lines if (r := json.loads(line))["kind"] == kind]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return AutoModelForCausalLM.from_pretrained(folder / "model").state_dict()


def test_it_learns_and_saves_an_ordinary_model(make_job) -> None:
    job = make_job()
    summary = train(job)
    assert is_complete(job.plan())
    curve = records(job.out, "validation")
    assert [r["tokens"] for r in curve] == [0, 512, 1024, 1536]
    assert curve[-1]["bits_per_byte"] < curve[0]["bits_per_byte"]
    model = AutoModelForCausalLM.from_pretrained(job.out / "model")
    tokens, documents = PackedCorpus(job.validation_pack).head(1000)
    again = measure(model, tokens, documents, eos_id=0, window=32, batch_size=4)
    assert again.bits_per_byte == pytest.approx(summary["final"]["bits_per_byte"], rel=1e-5)
    assert len(AutoTokenizer.from_pretrained(job.out / "model")) == model.config.vocab_size
    assert not (job.out / "checkpoints").exists()
    assert summary["tokens"] == 1536 and summary["flops"] == 1536 * summary["flops_per_token"]


def test_the_resolved_config_lies_with_the_run(make_job) -> None:
    job = make_job()
    train(job)
    saved = json.loads((job.out / "config.json").read_text())
    assert saved == json.loads(json.dumps(asdict(job), default=str)) and saved["optim"]["lr"] == 1e-3


def test_two_runs_are_bit_identical_and_seeds_differ(make_job, tmp_path) -> None:
    summaries = [
        train(make_job(out=tmp_path / "runs" / name, seed=seed)) for name, seed in [("a", 1), ("b", 1), ("c", 2)]
    ]
    a, b, c = (weights(tmp_path / "runs" / name) for name in "abc")
    assert all(torch.equal(a[k], b[k]) for k in a) and summaries[0]["final"] == summaries[1]["final"]
    assert not all(torch.equal(a[k], c[k]) for k in a)


UNFIT = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 3,
}


class Killed(BaseException):
    """Stands for kill -9: nothing of ours may catch it."""


def die_at(monkeypatch, limit: int, look=lambda running: None) -> None:
    """Let the next run die before its step `limit`, after a `look` at its loop."""
    step = loop.Loop.step

    def dying(self, number):
        if number == limit:
            look(self)
            raise Killed
        return step(self, number)

    monkeypatch.setattr(loop.Loop, "step", dying)


@pytest.mark.parametrize("when", ["before the first checkpoint", "between checkpoints", "during a save"])
def test_a_killed_run_ends_like_an_uninterrupted_one(make_job, tmp_path, monkeypatch, when) -> None:
    whole = make_job(out=tmp_path / "runs" / "whole")
    train(whole)
    job = make_job(train=TrainConfig(precision="fp32", threads=1, checkpoint_minutes=1e-9, log_seconds=0))
    rename = Path.rename

    if when == "during a save":

        def dying_rename(self, target):
            if "step-7" in str(target):
                raise Killed
            return rename(self, target)

        monkeypatch.setattr(Path, "rename", dying_rename)
    else:
        die_at(monkeypatch, 0 if when.startswith("before") else 7)
    with pytest.raises(Killed):
        train(job)
    assert not job.out.exists()
    monkeypatch.undo()
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    train(job)
    one, other = weights(whole.out), weights(job.out)
    assert all(torch.equal(one[k], other[k]) for k in one)
    assert records(whole.out, "validation") == records(job.out, "validation")
    steps = [r["step"] for r in records(job.out, "train")]
    assert steps == sorted(set(steps)), "a resumed run must not record a step twice"


def test_another_config_does_not_resume(make_job, monkeypatch) -> None:
    job = make_job(train=TrainConfig(precision="fp32", threads=1, checkpoint_minutes=1e-9, log_seconds=0))
    die_at(monkeypatch, 5)
    with pytest.raises(Killed):
        train(job)
    monkeypatch.undo()
    train(replace(job, optim=OptimConfig(lr=2e-3)))
    assert records(job.out, "train")[0]["step"] == 1


def test_from_nothing(make_job) -> None:
    fields = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    job = make_job(model=None, architecture=ArchitectureConfig("llama", {**fields, "num_key_value_heads": 2}))
    train(job)
    config = AutoModelForCausalLM.from_pretrained(job.out / "model").config
    assert (config.hidden_size, config.vocab_size, config.eos_token_id) == (16, 340, 0)


def test_bf16_autocast_learns_too(make_job) -> None:
    job = make_job(train=TrainConfig(precision="bf16", threads=1, checkpoint_minutes=60, log_seconds=0))
    summary = train(job)
    assert summary["final"]["bits_per_byte"] < records(job.out, "validation")[0]["bits_per_byte"]
    assert {v.dtype for v in weights(job.out).values()} == {torch.float32}


def test_fused_and_plain_loss_give_the_same_curve(make_job, tmp_path) -> None:
    curves = []
    for fused in (True, False):
        settings = TrainConfig(precision="fp32", threads=1, checkpoint_minutes=60, log_seconds=0, fused_loss=fused)
        job = make_job(out=tmp_path / "runs" / str(fused), train=settings)
        train(job)
        curves.append([r["nats_per_token"] for r in records(job.out, "validation")])
    assert curves[0] == pytest.approx(curves[1], rel=1e-4)


def test_a_diverging_run_stops_with_advice(make_job, monkeypatch) -> None:
    monkeypatch.setattr(
        loop.CausalLoss, "forward", lambda self, i, t: self.model.get_input_embeddings().weight.sum() * 1e39 * 1e39
    )
    with pytest.raises(UserError, match=r"(?s)loss is .*lower optim\.lr"):
        train(make_job())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train": TrainConfig(precision="fp16", threads=1)}, "needs a GPU"),
        ({"optim": OptimConfig(lr=None)}, r"optim\.lr is not set"),
        ({"architecture": ArchitectureConfig("nosuch"), "model": None}, "nosuch"),
        ({"architecture": ArchitectureConfig("llama", {"hiden_size": 8}), "model": None}, "hiden_size"),
        ({"architecture": ArchitectureConfig("llama", UNFIT), "model": None}, "make the sizes fit"),
    ],
)
def test_mistakes_are_named(make_job, change, message) -> None:
    with pytest.raises(UserError, match=message):
        train(make_job(**change))


def test_what_does_not_belong_together_is_refused(make_job, world) -> None:
    with pytest.raises(UserError, match="another vocabulary"):
        train(make_job(model=world.source))
    with pytest.raises(UserError, match="was not made with the tokenizer"):
        train(make_job(tokenizer=world.source_tokenizer))
    with pytest.raises(UserError, match="not a causal language model"):
        train(make_job(model=world.root / "packs"))


def test_two_phases_with_a_kill_at_their_boundary(make_job, tmp_path, monkeypatch) -> None:
    """Embeddings first, in smaller batches; the body has not moved when the second phase begins."""
    phases = PhasesConfig(share=0.5, lr=2e-3, batch_tokens=64, schedule="mixed")
    often = TrainConfig(precision="fp32", threads=1, checkpoint_minutes=1e-9, log_seconds=0)
    whole = make_job(out=tmp_path / "runs" / "whole", phases=phases, train=often)
    summary = train(whole)
    assert (summary["embedding_steps"], summary["steps"], summary["tokens"]) == (12, 18, 1536)
    lines = records(whole.out, "train")
    assert [r["tokens"] for r in lines] == [*range(64, 769, 64), *range(896, 1537, 128)]
    assert {r["lr_body"] for r in lines[:12]} == {0.0} and lines[12]["lr_body"] == lines[12]["lr_embeddings"] > 0
    job = make_job(phases=phases, train=often)
    start = weights_of(make_job().model)

    def only_tables_moved(running: loop.Loop) -> None:
        now = {k.removeprefix("model."): v for k, v in running.module.state_dict().items()}
        tables = [k for k in start if "embed_tokens" in k or "lm_head" in k]
        assert all(torch.equal(now[k], start[k]) for k in start if k not in tables)
        assert not any(torch.equal(now[k], start[k]) for k in tables)

    die_at(monkeypatch, 12, only_tables_moved)
    with pytest.raises(Killed):
        train(job)
    monkeypatch.undo()
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    train(job)
    one, other = weights(whole.out), weights(job.out)
    assert all(torch.equal(one[k], other[k]) for k in one)
    assert records(whole.out, "validation") == records(job.out, "validation")


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return AutoModelForCausalLM.from_pretrained(folder).state_dict()


def test_skipping_bad_losses_is_refused_with_deepspeed(make_job) -> None:
    often = TrainConfig(precision="fp32", threads=1, on_bad_loss="skip")
    with pytest.raises(UserError, match="skip cannot be had with DeepSpeed"):
        train(make_job(train=often, deepspeed=DeepSpeedConfig(stage=2)))


def test_a_loss_that_is_not_finite_is_skipped(make_job, monkeypatch) -> None:
    """One bad batch: its update is left out, the run goes on and ends with finite weights."""
    forward, calls = loop.CausalLoss.forward, []

    def sometimes(self, *inputs):
        calls.append(1)
        return forward(self, *inputs) * (float("nan") if len(calls) == 7 else 1.0)

    monkeypatch.setattr(loop.CausalLoss, "forward", sometimes)
    job = make_job(
        train=TrainConfig(precision="fp32", threads=1, checkpoint_minutes=60, log_seconds=0, on_bad_loss="skip")
    )
    summary = train(job)
    assert all(torch.isfinite(v).all() for v in weights(job.out).values())
    assert [r["step"] for r in records(job.out, "train") if r["loss"] is None] == [4]
    assert summary["final"]["bits_per_byte"] < records(job.out, "validation")[0]["bits_per_byte"]


def test_an_overflow_of_fp16_is_the_scalers_matter(make_job, monkeypatch) -> None:
    """DeepSpeed keeps its scaler to itself and tells of an overflow by a norm that is infinite."""
    begin, steps = loop.Loop.__init__, []

    def as_fp16(self, job, *arguments):
        begin(self, job, *arguments)
        self.job = replace(job, train=replace(job.train, precision="fp16"))

    def overflowing(*_):
        steps.append(1)
        return torch.tensor(float("inf") if len(steps) == 3 else 1.0)

    monkeypatch.setattr(loop.Loop, "__init__", as_fp16)
    monkeypatch.setattr(loop.engine, "forward_precision", lambda *_: nullcontext())
    monkeypatch.setattr("accelerate.Accelerator.clip_grad_norm_", overflowing)
    assert train(make_job())["final"]["step"] == len(steps) == 12


def test_documents_of_a_sequence_can_be_kept_apart(make_job, tmp_path) -> None:
    """The first step's loss is that of its documents, each computed alone; without the mask it is another."""
    losses = {}
    for masked in (False, True):
        budget = BudgetConfig(
            tokens=12 * 128, batch_tokens=128, sequence_length=32, micro_batch=2, document_mask=masked
        )
        job = make_job(out=tmp_path / "runs" / str(masked), budget=budget)
        train(job)
        losses[masked] = [r["loss"] for r in records(job.out, "train")]
    model = AutoModelForCausalLM.from_pretrained(job.model, dtype=torch.float32).eval()
    batches = Batches(PackedCorpus(job.train_pack), job.budget, job.seed)
    alone = []
    with torch.no_grad():
        for (inputs, targets), segments in zip(batches.micro_batches(0), batches.segments(0), strict=True):
            for row, wanted, documents in zip(inputs, targets, segments, strict=True):
                lengths = documents.unique_consecutive(return_counts=True)[1].tolist()
                for ids, after in zip(row.split(lengths), wanted.split(lengths), strict=True):
                    logs = model(input_ids=ids[None]).logits[0].double().log_softmax(-1)
                    alone += (-logs[torch.arange(len(after)), after]).tolist()
    assert len(alone) == 128
    assert losses[True][0] == pytest.approx(sum(alone) / len(alone), rel=1e-5)
    assert abs(losses[False][0] - losses[True][0]) > 1e-4 and losses[True][-1] < losses[True][0]
