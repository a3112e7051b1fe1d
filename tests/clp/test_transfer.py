"""The whole stage: what is copied, what is made, what is written beside it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny.families import quieten
from tiny.original import original_matrix
from transformers import AutoModelForCausalLM, AutoTokenizer

import clp_transfer
from clp_transfer.clp.job import MethodConfig, TransferJob
from clp_transfer.clp.methods import METHODS
from clp_transfer.clp.run import explain_text, transfer
from clp_transfer.manifest import is_complete

quieten()
OPTIONS = {"focus": {"focus_epochs": 1}, "calibrate": {"tokens": 1024, "window": 32}}
# wechsel needs files of its own, own makes no rows; their tests are with the methods.
NAMES = [*(name for name in METHODS if name not in ("wechsel", "own")), "auto", "calibrate"]


def job(world, out: Path, name: str = "clp", **changes) -> TransferJob:
    values = {"source": world.source, "helpers": [world.helper], "tokenizer": None, "method": MethodConfig(name)}
    return TransferJob(**(values | {"out": out, "seed": 1, "language": "de"} | changes))


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def changed(folder: Path, original: Path, file: str, **values) -> Path:
    """A copy of a model with other values in one of its JSON files."""
    shutil.copytree(original, folder)
    settings = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps(settings | values))
    return folder


@pytest.mark.parametrize("source", ["source", "untied", "gpt2"])
@pytest.mark.parametrize("method", NAMES)
def test_every_method_keeps_what_is_shared(world, tmp_path: Path, source: str, method: str) -> None:
    """Rows of shared tokens and the body are the source's, new rows are finite and of its size."""
    folder = getattr(world, source)
    options = OPTIONS.get(method, {})
    result = clp_transfer.transfer(folder, world.helper, method, text=world.train_pack, **options)
    result.save(tmp_path / "out")
    old, new = (AutoTokenizer.from_pretrained(name).get_vocab() for name in (folder, tmp_path / "out"))
    common = sorted(old.keys() & new.keys())
    before, after = tensors(folder), tensors(tmp_path / "out")
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        if len(tensor) == len(old):
            ids = [old[token] for token in common], [new[token] for token in common]
            assert torch.equal(after[name][ids[1]], tensor[ids[0]])
            missing = [new[token] for token in new if token not in old]
            norms = after[name][missing].norm(dim=1)
            assert len(after[name]) == len(new) and torch.isfinite(norms).all() and (norms > 0).all()
        else:
            assert torch.equal(after[name], tensor), name
    assert result.report["method"] == method and result.report["seed"] == 1
    if source == "untied":
        assert not torch.equal(result.input, result.head)


@pytest.mark.parametrize("method", NAMES)
def test_every_method_gives_the_source_back(world, tmp_path: Path, method: str) -> None:
    """Nothing is missing with the source's own tokenizer, whatever the method would do."""
    options = OPTIONS.get(method, {})
    text = tmp_path / "text.txt"
    text.write_text("\n".join(world.english))
    result = clp_transfer.transfer(world.untied, world.untied, method, text=text, **options)
    result.save(tmp_path / "out")
    for file in ("model.safetensors", "config.json", "generation_config.json"):
        assert (tmp_path / "out" / file).read_bytes() == (world.untied / file).read_bytes()


def test_one_vocabulary_with_other_ends(world, tmp_path: Path) -> None:
    """A base model and its chat model share all rows, but not their end of text and their template."""
    tables = tmp_path / "base", tmp_path / "chat"
    for folder, end in zip(tables, ("<|endoftext|>", "<|im_end|>"), strict=True):
        tokenizer = AutoTokenizer.from_pretrained(world.source)
        tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_end|>"]})
        tokenizer.eos_token = end
        model = AutoModelForCausalLM.from_pretrained(world.source)
        model.resize_token_embeddings(len(tokenizer))
        model.save_pretrained(folder)
        tokenizer.chat_template = None if folder == tables[0] else "{{ messages[0].content }}"
        tokenizer.save_pretrained(folder)
    result = clp_transfer.transfer(*tables)
    result.save(tmp_path / "out")
    assert result.report["overlap"]["identical"]
    assert all(torch.equal(tensors(tmp_path / "out")[key], value) for key, value in tensors(tables[0]).items())
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert (tokenizer.eos_token, tokenizer.chat_template) == ("<|im_end|>", "{{ messages[0].content }}")
    for file in ("config.json", "generation_config.json"):
        assert json.loads((tmp_path / "out" / file).read_text())["eos_token_id"] == tokenizer.eos_token_id


def test_padding_rows_of_the_source_take_no_part(world, tmp_path: Path) -> None:
    """Rows beyond the tokenizer (BLOOM has 200 of them), damaged ones too, move nothing that is made."""
    rows = len(tensors(world.source)["model.embed_tokens.weight"])
    padded = changed(tmp_path / "padded", world.source, "config.json", vocab_size=rows + 50)
    weights = tensors(world.source)
    weights["model.embed_tokens.weight"] = torch.nn.functional.pad(
        weights["model.embed_tokens.weight"], (0, 0, 0, 50), value=float("nan")
    )
    save_file(weights, padded / "model.safetensors", metadata={"format": "pt"})
    for method in ("random", "gaussian", "clp", "fvt"):
        one, other = (clp_transfer.transfer(source, world.helper, method) for source in (padded, world.source))
        assert torch.equal(one.input, other.input), method


def test_two_helpers_are_joined(world, tmp_path: Path) -> None:
    """Side by side, each over its rows' mean norm; the second is four times as large and counts no more."""
    second = tmp_path / "second"
    shutil.copytree(world.helper, second)
    weights = tensors(world.helper)
    draw = torch.Generator().manual_seed(3)
    table = weights["model.embed_tokens.weight"]
    weights["model.embed_tokens.weight"] = 4 * (table + 0.02 * torch.randn(table.shape, generator=draw))
    save_file(weights, second / "model.safetensors", metadata={"format": "pt"})
    result = clp_transfer.transfer(world.source, [world.helper, second])
    parts = [tensors(folder)["model.embed_tokens.weight"] for folder in (world.helper, second)]
    joined = torch.cat([part / part.norm(dim=1).mean() for part in parts], dim=1)
    vocabularies = (AutoTokenizer.from_pretrained(folder).get_vocab() for folder in (world.source, world.helper))
    expected = original_matrix(tensors(world.source)["model.embed_tokens.weight"], joined, *vocabularies)
    torch.testing.assert_close(result.input.double(), torch.from_numpy(expected), rtol=1e-5, atol=1e-6)
    alone = clp_transfer.transfer(world.source, world.helper)
    assert not torch.equal(alone.input, result.input)


def test_a_source_without_special_tokens(world, tmp_path: Path) -> None:
    """The target's end of text is then made like any other token, and does not break pieces or averages."""
    plain = changed(
        tmp_path / "plain",
        world.source,
        "tokenizer_config.json",
        bos_token=None,
        eos_token=None,
        pad_token=None,
        unk_token=None,
    )
    text = json.loads((plain / "tokenizer.json").read_text())
    text["added_tokens"] = []
    (plain / "tokenizer.json").write_text(json.dumps(text).replace("<|endoftext|>", "Ġnothing"))
    for method in ("clp", "ridge", "fvt", "random"):
        result = clp_transfer.transfer(plain, world.helper, method)
        assert result.tokenizer.eos_token_id in result.ingredients.overlap.missing
        assert torch.isfinite(result.input).all()


def test_a_cut_helper_or_text_only_tokenizer(world) -> None:
    """Without a helper a folder with a tokenizer is enough, and gives what the helper's would."""
    for method in ("fvt", "mean", "random", "gaussian"):
        one = clp_transfer.transfer(world.source, None, method, tokenizer=world.target_tokenizer)
        other = clp_transfer.transfer(world.source, world.helper, method)
        assert torch.equal(one.input, other.input)


def test_report_card_and_provenance(world, tmp_path: Path) -> None:
    done = job(world, tmp_path / "out", "clp-topk")
    plan = done.plan()
    report = transfer(done)
    assert is_complete(plan)
    assert json.loads((tmp_path / "out/transfer.json").read_text()) == json.loads(json.dumps(report))
    size = len(AutoTokenizer.from_pretrained(tmp_path / "out"))
    assert report["overlap"]["shared"] + report["overlap"]["missing"] == size == report["rows"]
    assert report["models"].keys() == {"source", "helper0"}
    assert "base_model: source" in (tmp_path / "out/README.md").read_text()
    result = clp_transfer.transfer(world.source, world.helper, "clp-topk")
    rows = {row["id"]: row for row in result.provenance.to_pylist()}
    assert list(rows) == list(range(size))
    assert [row["made"] for row in rows.values()].count("clp-topk") == report["overlap"]["missing"]
    token = next(i for i, row in rows.items() if row["made"] == "clp-topk" and row["class"] == "word")
    assert rows[token]["text"].startswith(" ")
    # Ten nearest with softmax weights: five of them are listed, largest first.
    weights = rows[token]["weights"]
    assert len(weights) == 5 and weights == sorted(weights, reverse=True) and 0.4 < sum(weights) < 1
    table = tensors(world.source)["model.embed_tokens.weight"]
    assert rows[token]["norm"] == pytest.approx(float(result.input[token].norm()))
    copied = next(row for row in rows.values() if row["made"] == "copied")
    assert copied["weights"] == [1.0] and torch.equal(result.input[copied["id"]], table[copied["source_ids"][0]])
    line = explain_text(done, rows[token]["text"].strip())
    assert f"{rows[token]['text']!r} is 1 token\n" in line and repr(rows[token]["source_tokens"][0]) in line
    assert line == result.explain(rows[token]["text"].strip())


def test_a_stage_is_skipped_or_redone_by_what_it_reads(world, tmp_path: Path) -> None:
    """An option that the method does not read changes nothing; its seed, padding and helper do."""
    plan = job(world, tmp_path / "out").plan()
    same = job(world, tmp_path / "out", method=MethodConfig("clp", ridge=0.5, share=0.1))
    assert same.plan().key == plan.key
    others = [
        job(world, tmp_path / "out", seed=2),
        job(world, tmp_path / "out", pad_to_multiple_of=8),
        job(world, tmp_path / "out", method=MethodConfig("clp", top_k=3)),
        job(world, tmp_path / "out", source=world.untied),
        job(world, tmp_path / "out", helpers=[world.helper, world.helper]),
    ]
    assert len({plan.key, *(other.plan().key for other in others)}) == 1 + len(others)


def test_two_runs_are_identical(world, tmp_path: Path) -> None:
    for out in "ab":
        transfer(job(world, tmp_path / out, "random"))
    transfer(job(world, tmp_path / "c", "random", seed=2))
    for file in ("model.safetensors", "config.json", "tokenizer.json", "provenance.parquet", "README.md"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file
    assert (tmp_path / "a/model.safetensors").read_bytes() != (tmp_path / "c/model.safetensors").read_bytes()


@pytest.mark.parametrize("source", ["source", "untied"])
def test_scratch_keeps_the_shape_and_no_weight(world, tmp_path: Path, source: str) -> None:
    folder = getattr(world, source)
    for out, seed in (("a", 1), ("b", 2), ("c", 1)):
        transfer(job(world, tmp_path / out, "scratch", source=folder, seed=seed, pad_to_multiple_of=64))
    old, one, two, again = (tensors(path) for path in (folder, *(tmp_path / out for out in "abc")))
    for name, tensor in old.items():
        assert one[name].shape[1:] == tensor.shape[1:] and one[name].dtype == tensor.dtype
        assert torch.equal(one[name], again[name])
        if not name.endswith("norm.weight"):
            assert not torch.equal(one[name], two[name])
            assert not torch.equal(one[name][:300], tensor[:300])
    assert len(one["model.embed_tokens.weight"]) == 384
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "a")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "a")
    assert model.config.vocab_size == 384 and model.config.eos_token_id == tokenizer.eos_token_id
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id


def test_scratch_keeps_the_dtype(world, tmp_path: Path) -> None:
    AutoModelForCausalLM.from_pretrained(world.source, dtype=torch.bfloat16).save_pretrained(tmp_path / "half")
    AutoTokenizer.from_pretrained(world.source).save_pretrained(tmp_path / "half")
    transfer(job(world, tmp_path / "out", "scratch", source=tmp_path / "half"))
    assert {tensor.dtype for tensor in tensors(tmp_path / "out").values()} == {torch.bfloat16}
