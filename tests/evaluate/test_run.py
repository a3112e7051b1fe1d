"""The evaluate stage end to end: what it writes, what it keeps, what it refuses."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from clp_transfer.errors import UserError
from clp_transfer.evaluate import run
from clp_transfer.evaluate.job import EvaluateConfig, EvaluateJob
from clp_transfer.evaluate.samples import continuations
from clp_transfer.files import read_json
from clp_transfer.manifest import is_complete


@pytest.fixture
def job(world, task, labels, tmp_path) -> EvaluateJob:
    """The helper, which is a model with the target's tokenizer, on the first 500 bytes."""
    config = EvaluateConfig(window=16, max_bytes=500, prompts=["der Hund", ""], sample_tokens=8, threads=1)
    return EvaluateJob(
        model=world.helper,
        validation_pack=world.validation_pack,
        task=task,
        labels=labels,
        config=config,
        out=tmp_path / "out",
        seed=1,
    )


def test_results(job) -> None:
    run.evaluate(job)
    assert is_complete(job.plan())
    found = read_json(job.out / "results.json")
    keys = "tokens bytes words documents nats_per_token token_perplexity word_perplexity byte_perplexity"
    assert list(found["perplexity"]) == [*keys.split(), "bits_per_byte", "window", "policy"]
    assert 400 < found["perplexity"]["bytes"] <= 500
    assert found["tasks"]["domains"]["documents"] == 24
    assert [sample["prompt"] for sample in found["samples"]] == ["der Hund", ""]
    assert {path.name for path in job.out.iterdir()} == {"results.json", "manifest.json"}


def test_step0_settings_do_not_run_it_again(job) -> None:
    other = replace(job, config=replace(job.config, step0_bytes=1))
    assert job.plan().key == other.plan().key
    assert job.plan().key != replace(job, config=replace(job.config, window=8)).plan().key


def test_goes_on_with_the_perplexity_it_has(job, monkeypatch) -> None:
    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run, "domain_task", killed)
        with pytest.raises(KeyboardInterrupt):
            run.evaluate(job)
    assert not job.out.exists()
    kept = read_json(job.plan().working / "perplexity.json")
    monkeypatch.setattr(run, "measure", killed)
    run.evaluate(replace(job, task=job.task))
    assert read_json(job.out / "results.json")["perplexity"] == kept


def test_without_a_task(job) -> None:
    run.evaluate(replace(job, task=None, config=replace(job.config, prompts=[])))
    found = read_json(job.out / "results.json")
    assert found["tasks"] == {} and found["samples"] == []


def test_a_tokenizer_larger_than_the_embedding_is_refused(job, world, tmp_path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(world.source, broken)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(world.target_tokenizer / name, broken / name)
    with pytest.raises(UserError, match="the tokenizer has 340 tokens, but the model's embedding has 330 rows"):
        run.evaluate(replace(job, model=broken))
    assert not job.out.exists()


def test_a_folder_without_a_model_is_refused(job, tmp_path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/notes.txt").write_text("nothing")
    with pytest.raises(UserError, match="empty is not a causal language model"):
        run.evaluate(replace(job, model=tmp_path / "empty"))


def test_a_model_without_a_padding_token(job, world, tmp_path) -> None:
    folder = Path(shutil.copytree(world.helper, tmp_path / "nopad"))
    for name, key in (("config.json", "pad_token_id"), ("tokenizer_config.json", "pad_token")):
        values = json.loads((folder / name).read_text())
        values.pop(key)
        (folder / name).write_text(json.dumps(values))
    (folder / "generation_config.json").unlink()
    assert AutoTokenizer.from_pretrained(folder).pad_token is None
    run.evaluate(job)
    run.evaluate(replace(job, model=folder, out=tmp_path / "other"))
    assert read_json(tmp_path / "other/results.json") == read_json(job.out / "results.json")


def test_samples_depend_on_the_seed_alone(world) -> None:
    model = AutoModelForCausalLM.from_pretrained(world.helper).train()
    tokenizer = AutoTokenizer.from_pretrained(world.helper)
    state = torch.get_rng_state()
    first = continuations(model, tokenizer, ["der", "die"], tokens=8, eos_id=0, seed=1)
    assert torch.equal(torch.get_rng_state(), state) and model.training
    torch.manual_seed(99)
    assert continuations(model, tokenizer, ["der"], tokens=8, eos_id=0, seed=1) == first[:1]
    assert continuations(model, tokenizer, ["der", "die"], tokens=8, eos_id=0, seed=2) != first
    assert not any(sample["text"].startswith("der") for sample in first[:1])


def test_samples_stay_within_the_context(world, tokenizer) -> None:
    model = AutoModelForCausalLM.from_pretrained(world.gpt2)  # it has no position beyond 64: one more would fail
    lengths = []
    model.register_forward_hook(lambda *_: lengths.append(1))
    continuations(model, tokenizer, ["abc"], tokens=500, eos_id=0, seed=1)
    assert 1 <= len(lengths) <= 64
    with pytest.raises(UserError, match="the model's context 64"):
        continuations(model, tokenizer, ["x" * 99], tokens=8, eos_id=0, seed=1)
