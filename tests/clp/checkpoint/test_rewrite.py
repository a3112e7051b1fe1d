"""Checkpoints with new tables: what transformers loads from them, and what stays bit for bit."""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from clp_transfer import bulk
from clp_transfer.clp.checkpoint import ranges
from clp_transfer.clp.checkpoint.layout import Layout, find_layout
from clp_transfer.clp.checkpoint.rewrite import write
from clp_transfer.clp.checkpoint.weights import Weights
from clp_transfer.errors import UserError


def opened(folder: Path) -> tuple[Weights, Layout]:
    weights = Weights(folder)
    return weights, find_layout(folder, weights)


def new_tables(weights: Weights, layout: Layout, rows: int) -> dict[str, torch.Tensor]:
    """Drawn tables of another size for each of the source's."""
    generator = torch.Generator().manual_seed(9)
    names = [name for name in (layout.input, layout.head, layout.head_bias) if name]
    return {n: torch.randn(rows, *weights.entries[n].shape[1:], generator=generator) for n in names}


def load(folder: Path) -> tuple[torch.nn.Module, dict]:
    """The model as transformers loads it, and what it says about missing and unexpected tensors."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype="auto", output_loading_info=True)


def put_config(layout: Layout, out: Path, rows: int) -> None:
    """config.json with another vocabulary size, no more; the configs have tests of their own."""
    (out / "config.json").write_text(json.dumps(layout.config | {"vocab_size": rows}))


@pytest.mark.parametrize("rows", [71, 100])
def test_another_vocabulary_loads_and_all_else_is_the_sources(family, tmp_path, rows):
    weights, layout = opened(family.folder)
    replaced = new_tables(weights, layout, rows)
    write(weights, layout, replaced, tmp_path)
    put_config(layout, tmp_path, rows)
    model, info = load(tmp_path)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    source = AutoModelForCausalLM.from_pretrained(family.folder, dtype="auto")
    inputs, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    dtype = source.get_input_embeddings().weight.dtype
    assert torch.equal(inputs, replaced[layout.input].to(dtype))
    assert (head is inputs) == (layout.head is None)
    if layout.head:
        assert torch.equal(head, replaced[layout.head].to(dtype))
    tables = {id(inputs), id(head), id(getattr(model.get_output_embeddings(), "bias", None))}
    others = {n: p for n, p in model.state_dict(keep_vars=True).items() if id(p) not in tables}
    assert others.keys() and all(torch.equal(p, source.state_dict()[n]) for n, p in others.items())
    assert all(p.dtype == source.state_dict()[n].dtype for n, p in model.state_dict().items())
    with torch.no_grad():
        logits = model(torch.tensor([[1, 2, rows - 1]])).logits
    assert logits.shape[-1] == rows and torch.isfinite(logits).all()


def test_the_same_tables_give_the_same_file(family, tmp_path):
    weights, layout = opened(family.folder)
    same = {name: weights.read(name) for name in family.tables}
    for case, replaced in (("nothing", {}), ("same", same)):
        out = tmp_path / case
        out.mkdir()
        write(weights, layout, replaced, out)
        before, after = (load_file(f / "model.safetensors") for f in (family.folder, out))
        assert before.keys() == after.keys()
        assert all(a.dtype == before[n].dtype and torch.equal(a, before[n]) for n, a in after.items())
        if not replaced:
            assert (out / "model.safetensors").read_bytes() == (family.folder / "model.safetensors").read_bytes()


@pytest.mark.parametrize("name", ["llama-untied", "bloom"])
def test_sharded(make_family, tmp_path, name):
    made = make_family(name, save={"max_shard_size": "8KB"})
    weights, layout = opened(made.folder)
    assert weights.sharded and len(weights.contents) > 1
    replaced = new_tables(weights, layout, 100)
    counts = write(weights, layout, replaced, tmp_path)
    put_config(layout, tmp_path, 100)
    model, info = load(tmp_path)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert torch.equal(model.get_input_embeddings().weight, replaced[layout.input])
    holding = {weights.entries[n].file.name for n in replaced}
    for file in weights.contents:
        same = (tmp_path / file).read_bytes() == (made.folder / file).read_bytes()
        assert same == (file not in holding)
    assert counts["rewritten"] == sum((tmp_path / f).stat().st_size for f in holding)
    assert sum(counts.values()) == sum((tmp_path / f).stat().st_size for f in weights.contents)
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    sizes = {}
    for file in set(index["weight_map"].values()):
        with safe_open(tmp_path / file, "pt") as opened_file:
            assert opened_file.metadata() == {"format": "pt"}
            sizes |= {key: opened_file.get_tensor(key) for key in opened_file.keys()}  # noqa: SIM118
    assert sizes.keys() == index["weight_map"].keys()
    assert index["metadata"]["total_size"] == sum(t.numel() * t.element_size() for t in sizes.values())
    assert index["metadata"]["total_parameters"] == sum(t.numel() for t in sizes.values())
    for file in [*weights.contents, "model.safetensors.index.json"]:
        write(weights, layout, {}, tmp_path)
        assert (tmp_path / file).read_bytes() == (made.folder / file).read_bytes()


@pytest.mark.parametrize("shards", [1, 2])
@pytest.mark.parametrize("old_format", [False, True])
def test_pickled_becomes_safetensors(make_family, tmp_path, shards, old_format):
    made = make_family("gpt2", dtype="float16")
    tensors = load_file(made.folder / "model.safetensors")
    # As old GPT-2 files: a tied head that shares its storage, and mask buffers of odd sizes and small dtypes.
    tensors["lm_head.weight"] = tensors[made.input]
    tensors["transformer.h.0.attn.bias"] = torch.ones(1, 1, 3, 3, dtype=torch.uint8)
    tensors["transformer.h.0.attn.masked_bias"] = torch.tensor(-1e4)
    old = tmp_path / "old"
    old.mkdir()
    (old / "config.json").write_bytes((made.folder / "config.json").read_bytes())
    names = list(tensors)
    files = [f"pytorch_model-{i + 1:05d}-of-00002.bin" for i in range(2)] if shards > 1 else ["pytorch_model.bin"]
    for i, file in enumerate(files):
        part = {n: tensors[n] for n in names[i::shards]}
        torch.save(part, old / file, _use_new_zipfile_serialization=not old_format)
    if shards > 1:
        weight_map = {n: files[i % 2] for i, n in enumerate(names)}
        (old / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    weights, layout = opened(old)
    assert layout.tied_copy == "lm_head.weight"
    out = tmp_path / "out"
    out.mkdir()
    replaced = new_tables(weights, layout, 71)
    write(weights, layout, replaced, out)
    put_config(layout, out, 71)
    assert not list(out.glob("*.bin*")) and len(list(out.glob("*.safetensors"))) == shards
    found = {k: v for file in out.glob("*.safetensors") for k, v in load_file(file).items()}
    assert found.keys() == tensors.keys() - {"lm_head.weight"}
    for name, tensor in found.items():
        wanted = replaced[name].half() if name in replaced else tensors[name]
        assert tensor.dtype == wanted.dtype and torch.equal(tensor, wanted), name
    model, info = load(out)
    assert not info["missing_keys"] and model.lm_head.weight is model.transformer.wte.weight
    for file in out.glob("*.safetensors"):  # every tensor begins at a whole element of its own
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(length))
        assert length % 8 == 0
        for name in header.keys() - {"__metadata__"}:
            assert header[name]["data_offsets"][0] % found[name].element_size() == 0


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_dtype_is_kept(make_family, tmp_path, dtype):
    weights, layout = opened(make_family("llama-untied", dtype=dtype).folder)
    write(weights, layout, new_tables(weights, layout, 71), tmp_path)
    assert {t.dtype for t in load_file(tmp_path / "model.safetensors").values()} == {getattr(torch, dtype)}


def test_rows_that_the_dtype_cannot_hold(make_family, tmp_path):
    weights, layout = opened(make_family("llama-tied", dtype="float16").folder)
    table = torch.zeros(71, 16)
    table[5] = 1e6
    with pytest.raises(UserError, match=r"1 new rows are NaN or too large for torch.float16 \(the first: \[5\]\)"):
        write(weights, layout, {layout.input: table}, tmp_path)


def test_tables_that_do_not_fit_each_other(make_family, tmp_path):
    weights, layout = opened(make_family("phi").folder)
    good = new_tables(weights, layout, 71)
    for name in good:
        with pytest.raises(ValueError, match="rows"):
            write(weights, layout, {k: v for k, v in good.items() if k != name}, tmp_path)
        with pytest.raises(ValueError, match="rows"):
            write(weights, layout, good | {name: torch.cat([good[name], good[name]])}, tmp_path)
    with pytest.raises(ValueError, match="not one of the tables"):
        write(weights, layout, good | {"model.final_layernorm.weight": torch.zeros(16)}, tmp_path)
    with pytest.raises(ValueError, match="in place of"):
        write(weights, layout, good | {layout.input: torch.zeros(71, 3)}, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_tied_copy_alone_in_its_shard_disappears(make_family, tmp_path):
    made = make_family("llama-tied")
    tensors = load_file(made.folder / "model.safetensors")
    old, out = tmp_path / "old", tmp_path / "out"
    old.mkdir()
    out.mkdir()
    save_file(tensors, old / "model-00001-of-00002.safetensors")
    save_file({"lm_head.weight": tensors[made.input].clone()}, old / "model-00002-of-00002.safetensors")
    weight_map = dict.fromkeys(tensors, "model-00001-of-00002.safetensors")
    weight_map["lm_head.weight"] = "model-00002-of-00002.safetensors"
    (old / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (old / "config.json").write_bytes((made.folder / "config.json").read_bytes())
    weights, layout = opened(old)
    write(weights, layout, new_tables(weights, layout, 71), out)
    put_config(layout, out, 71)
    assert [p.name for p in out.glob("*.safetensors")] == ["model-00001-of-00002.safetensors"]
    model, info = load(out)
    assert not info["missing_keys"] and model.lm_head.weight is model.model.embed_tokens.weight


def sharded_source(make_family, tmp_path) -> tuple[Weights, Layout, list[str]]:
    """A sharded model behind symbolic links, as in a hub cache, and its files that hold no table."""
    made = make_family("llama-untied", save={"max_shard_size": "8KB"})
    snapshot = tmp_path / "snapshot"
    snapshot.mkdir()
    for file in made.folder.iterdir():
        (snapshot / file.name).symlink_to(file)
    weights, layout = opened(snapshot)
    holding = {weights.entries[n].file.name for n in made.tables}
    return weights, layout, [f for f in weights.contents if f not in holding]


def test_links_only_when_asked_for_and_never_symbolic(make_family, tmp_path, monkeypatch):
    weights, layout, untouched = sharded_source(make_family, tmp_path)
    assert untouched
    monkeypatch.setattr(ranges, "_clone", lambda source, out: False)
    for links in ("never", "auto"):
        out = tmp_path / links
        out.mkdir()
        counts = write(weights, layout, new_tables(weights, layout, 71), out, links)
        assert not any(p.is_symlink() for p in out.iterdir())
        for file in untouched:
            assert (out / file).read_bytes() == (weights.folder / file).read_bytes()
            assert (out / file).samefile(weights.folder / file) == (links == "auto")
        assert (counts["copied"] == 0) == (links == "auto") and (counts["linked"] == 0) == (links == "never")
    with pytest.raises(ValueError, match="links"):
        write(weights, layout, {}, tmp_path, "hard")


def test_what_an_interrupted_run_linked_is_not_written_into(make_family, tmp_path, monkeypatch):
    weights, layout, _ = sharded_source(make_family, tmp_path)
    before = {p.name: p.read_bytes() for p in weights.folder.iterdir()}
    out = tmp_path / "out"
    out.mkdir()
    for file in weights.contents:
        os.link((weights.folder / file).resolve(), out / file)
    for links in ("auto", "never"):
        write(weights, layout, new_tables(weights, layout, 71), out, links)
        assert {p.name: p.read_bytes() for p in weights.folder.iterdir()} == before


def test_copies_where_the_kernel_cannot(make_family, tmp_path, monkeypatch):
    weights, layout, _ = sharded_source(make_family, tmp_path)

    def refuse(*_args, **_keywords):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(ranges, "_clone", lambda source, out: False)
    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(bulk, "BLOCK", 1000)
    replaced = new_tables(weights, layout, 71)
    counts = write(weights, layout, replaced, tmp_path, "auto")
    assert counts["copied"] > 0
    for name in weights.entries:
        with safe_open(tmp_path / weights.entries[name].file.name, "pt") as file:
            assert torch.equal(file.get_tensor(name), replaced.get(name, weights.read(name)))


def test_no_room_and_no_permission(make_family, tmp_path, monkeypatch):
    weights, layout = opened(make_family("llama-tied").folder)
    replaced = new_tables(weights, layout, 71)
    with pytest.raises(UserError, match="is the source itself"):
        write(weights, layout, replaced, weights.folder)

    def full(*_args):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(UserError, match="is full"):
            write(weights, layout, replaced, tmp_path)
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result((512, 512, 9, 9, 9, 0, 0, 0, 0, 255)))
    with pytest.raises(UserError, match=r"needs .* GB, its disk has 0.0 GB left"):
        write(weights, layout, replaced, tmp_path)
