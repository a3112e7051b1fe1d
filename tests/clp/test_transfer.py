"""The whole stage: what is copied, what is made, what is written, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from clp_transfer.clp.job import MethodConfig, TransferJob
from clp_transfer.clp.overlap import match
from clp_transfer.clp.run import transfer
from clp_transfer.clp.transfer import compute_rows
from clp_transfer.errors import UserError
from clp_transfer.manifest import is_complete

METHODS = ["clp", "clp-topk", "ridge", "fvt", "mean", "random"]


def job(world, out: Path, method: str = "clp", **changes) -> TransferJob:
    values = {
        "source": world.source,
        "helper": world.helper,
        "tokenizer": world.target_tokenizer,
        "method": MethodConfig(method),
        "out": out,
        "seed": 1,
        "language": "de",
    }
    return TransferJob(**(values | changes))


@pytest.mark.parametrize("source", ["source", "untied", "gpt2"])
@pytest.mark.parametrize("method", METHODS)
def test_overlap_is_copied_and_the_body_untouched(world, tmp_path, source, method) -> None:
    transfer(job(world, tmp_path / "out", method, source=getattr(world, source)))
    old = AutoModelForCausalLM.from_pretrained(getattr(world, source))
    new = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    overlap = match(AutoTokenizer.from_pretrained(getattr(world, source)), tokenizer)
    for table in ("get_input_embeddings", "get_output_embeddings"):
        before, after = getattr(old, table)().weight, getattr(new, table)().weight
        assert after.shape == (len(tokenizer), before.shape[1])
        assert torch.equal(after[list(overlap.shared)], before[list(overlap.shared.values())])
        assert torch.isfinite(after).all()
    tables = {id(getattr(m, t)().weight) for m in (old, new) for t in ("get_input_embeddings", "get_output_embeddings")}
    body = {n: p for n, p in old.named_parameters() if id(p) not in tables}
    for name, parameter in new.named_parameters():
        if id(parameter) not in tables:
            assert torch.equal(parameter, body[name]), name
    if source == "untied":
        assert not torch.equal(new.get_input_embeddings().weight, new.get_output_embeddings().weight)


@pytest.mark.parametrize("source", ["source", "untied", "gpt2"])
@pytest.mark.parametrize("method", METHODS)
def test_the_same_tokenizer_gives_the_same_model(world, tmp_path, source, method) -> None:
    """Nothing is missing, so every method must give the source back, bit for bit."""
    original = getattr(world, source)
    transfer(job(world, tmp_path / "out", method, source=original, helper=original, tokenizer=original))
    before, after = (
        AutoModelForCausalLM.from_pretrained(original),
        AutoModelForCausalLM.from_pretrained(tmp_path / "out"),
    )
    for name, parameter in before.state_dict().items():
        assert torch.equal(parameter, after.state_dict()[name]), name


def test_ids_generation_and_card(world, tmp_path) -> None:
    plan = job(world, tmp_path / "out").plan()
    transfer(job(world, tmp_path / "out"))
    model, tokenizer = (c.from_pretrained(tmp_path / "out") for c in (AutoModelForCausalLM, AutoTokenizer))
    for config in (model.config, model.generation_config):
        assert (config.eos_token_id, config.bos_token_id) == (tokenizer.eos_token_id, tokenizer.bos_token_id)
    assert model.config.vocab_size == len(tokenizer)
    inputs = tokenizer("Das Haus", return_tensors="pt")
    assert model.generate(**inputs, max_new_tokens=5, do_sample=False).shape[1] > inputs["input_ids"].shape[1]
    assert "base_model: source" in (tmp_path / "out" / "README.md").read_text()
    report = json.loads((tmp_path / "out" / "transfer.json").read_text())
    assert report["overlap"]["shared"] + report["overlap"]["missing"] == len(tokenizer)
    assert is_complete(plan)


def test_dtype_is_kept(world, tmp_path) -> None:
    shutil.copytree(world.source, tmp_path / "half")
    weights = {k: v.bfloat16() for k, v in load_file(world.source / "model.safetensors").items()}
    save_file(weights, tmp_path / "half" / "model.safetensors", metadata={"format": "pt"})
    transfer(job(world, tmp_path / "out", source=tmp_path / "half"))
    assert {v.dtype for v in load_file(tmp_path / "out" / "model.safetensors").values()} == {torch.bfloat16}


def test_padding_rows_of_the_source_take_no_part(world, tmp_path) -> None:
    """Rows beyond the tokenizer (BLOOM has 200 of them) must not move the mean and spread of `random`."""
    shutil.copytree(world.source, tmp_path / "padded")
    weights = load_file(world.source / "model.safetensors")
    table = weights["model.embed_tokens.weight"]
    weights["model.embed_tokens.weight"] = torch.cat([table, torch.full((50, table.shape[1]), 1e3)])
    save_file(weights, tmp_path / "padded" / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((tmp_path / "padded" / "config.json").read_text())
    (tmp_path / "padded" / "config.json").write_text(json.dumps(config | {"vocab_size": table.shape[0] + 50}))
    arguments = (world.helper, world.target_tokenizer, MethodConfig("random"), 1)
    assert torch.equal(
        compute_rows(tmp_path / "padded", *arguments).input, compute_rows(world.source, *arguments).input
    )


def test_scratch_keeps_the_shape_and_no_weight(world, tmp_path) -> None:
    transfer(job(world, tmp_path / "a", "scratch"))
    transfer(job(world, tmp_path / "b", "scratch", seed=2))
    source = AutoModelForCausalLM.from_pretrained(world.source).state_dict()
    one, two = (AutoModelForCausalLM.from_pretrained(tmp_path / x).state_dict() for x in "ab")
    name = "model.layers.0.mlp.up_proj.weight"
    assert one[name].shape == source[name].shape
    assert not torch.equal(one[name], source[name]) and not torch.equal(one[name], two[name])


def test_two_runs_are_identical(world, tmp_path) -> None:
    for out in "ab":
        transfer(job(world, tmp_path / out, "random"))
    assert (tmp_path / "a/model.safetensors").read_bytes() == (tmp_path / "b/model.safetensors").read_bytes()


def test_helper_with_another_tokenizer_is_refused(world, tmp_path) -> None:
    with pytest.raises(UserError, match="does not have the target's tokenizer"):
        transfer(job(world, tmp_path / "out", helper=world.source))
    assert not (tmp_path / "out").exists()


def damaged(world, folder: Path, change) -> Path:
    shutil.copytree(world.helper, folder)
    weights = load_file(world.helper / "model.safetensors")
    weights["model.embed_tokens.weight"] = change(weights["model.embed_tokens.weight"])
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_helper_with_too_few_rows_is_refused(world, tmp_path) -> None:
    helper = damaged(world, tmp_path / "few", lambda table: table[:-5].contiguous())
    with pytest.raises(UserError, match=r"ids up to 339, its embedding 335 rows"):
        transfer(job(world, tmp_path / "out", helper=helper))


def test_nan_rows_are_refused(world, tmp_path) -> None:
    def poison(table):
        table[7] = float("nan")
        return table

    with pytest.raises(UserError, match=r"1 embedding rows with NaN.*\[7\]"):
        transfer(job(world, tmp_path / "out", helper=damaged(world, tmp_path / "nan", poison)))


def test_no_model_there(world, tmp_path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "note.txt").write_text("nothing")
    with pytest.raises(UserError, match="not a model folder"):
        transfer(job(world, tmp_path / "out", source=tmp_path / "empty"))
