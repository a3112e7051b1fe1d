"""Opening checkpoints, whole and damaged."""

import json
import os
import re

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from clp_transfer.clp.checkpoint.weights import Weights
from clp_transfer.errors import UserError


@pytest.fixture
def sharded(make_family):
    return make_family("llama-untied", save={"max_shard_size": "8KB"}).folder


def save_bins(folder, out, shards: int, old_format: bool = False):
    """The tensors of a safetensors folder as pytorch_model.bin, or several."""
    tensors = load_file(folder / "model.safetensors")
    names = list(tensors)
    files = [f"pytorch_model-{i + 1:05d}-of-{shards:05d}.bin" for i in range(shards)] if shards > 1 else None
    for i, file in enumerate(files or ["pytorch_model.bin"]):
        part = {name: tensors[name] for name in names[i::shards]}
        torch.save(part, out / file, _use_new_zipfile_serialization=not old_format)
    if files:
        weight_map = {name: files[i % shards] for i, name in enumerate(names)}
        (out / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return tensors


def assert_holds(weights: Weights, tensors: dict) -> None:
    assert weights.entries.keys() == tensors.keys()
    for name, tensor in tensors.items():
        found = weights.read(name)
        assert found.dtype == tensor.dtype and torch.equal(found, tensor), name


def test_single_and_sharded_safetensors(make_family, sharded):
    single = make_family("llama-untied").folder
    tensors = load_file(single / "model.safetensors")
    assert_holds(Weights(single), tensors)
    assert len(Weights(sharded).contents) > 2
    assert_holds(Weights(sharded), tensors)


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("old_format", [False, True])
def test_pickled(make_family, tmp_path, shards, old_format):
    tensors = save_bins(make_family("gpt2").folder, tmp_path, shards, old_format)
    weights = Weights(tmp_path)
    assert_holds(weights, tensors)
    assert all((entry.start is None) == old_format for entry in weights.entries.values())


def test_pickled_views_scalars_and_other_dtypes(tmp_path):
    base = torch.arange(12.0).reshape(3, 4)
    tensors = {
        "base": base,
        "transposed": base.t(),
        "part": base[1:],
        "half": base.bfloat16(),
        "scalar": torch.tensor(7),
        "mask": torch.tensor([True, False, True]),
        "empty": torch.zeros(0, 4),
    }
    torch.save({**tensors, "step": 3}, tmp_path / "pytorch_model.bin")
    assert_holds(Weights(tmp_path), tensors)


def test_pickled_code_is_refused_and_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (os.system, (f"touch {tmp_path}/ran",))

    torch.save({"a": torch.zeros(2), "b": Evil()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"running code that is in it \(posix.system\)"):
        Weights(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_pickled_without_tensors(tmp_path):
    torch.save([1, 2], tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match="no dictionary from names to tensors"):
        Weights(tmp_path)


@pytest.mark.parametrize("old_format", [False, True])
def test_truncated_pickled(make_family, tmp_path, old_format):
    save_bins(make_family("gpt2").folder, tmp_path, 1, old_format)
    file = tmp_path / "pytorch_model.bin"
    os.truncate(file, file.stat().st_size - 300)
    with pytest.raises(UserError, match=r"pytorch_model.bin is damaged"):
        Weights(tmp_path)


def test_missing_shards_are_named(sharded):
    names = sorted(p.name for p in sharded.glob("*.safetensors"))
    (sharded / names[1]).unlink()
    with pytest.raises(UserError, match=f"lacks 1 of {len(names)} weight files: {re.escape(names[1])}"):
        Weights(sharded)


def test_truncated_shard(sharded):
    file = sorted(sharded.glob("*.safetensors"))[0]
    os.truncate(file, file.stat().st_size - 1)
    with pytest.raises(UserError, match=rf"{re.escape(file.name)} is damaged: .* need .* bytes, the file has"):
        Weights(sharded)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it has 0 bytes"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git-lfs pointer"),
        (b"\xff" * 40, "header should have"),
        (b"\x04\0\0\0\0\0\0\0nope", "its header is not"),
        (b"\x02\0\0\0\0\0\0\0[]", "its header is not"),
        (b'\x39\0\0\0\0\0\0\0{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}   ' + bytes(8), "8 bytes for F32"),
    ],
)
def test_damaged_safetensors(tmp_path, content, message):
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(UserError, match=message):
        Weights(tmp_path)


def change_index(folder, change) -> None:
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    change(index)
    path.write_text(json.dumps(index))


def test_index_names_a_tensor_that_is_not_there(sharded):
    some = sorted(p.name for p in sharded.glob("*.safetensors"))[0]
    change_index(sharded, lambda index: index["weight_map"].update({"model.ghost.weight": some}))
    with pytest.raises(UserError, match=f"places model.ghost.weight in {re.escape(some)}, which does not hold it"):
        Weights(sharded)


def test_index_names_the_wrong_shard(sharded):
    names = sorted(p.name for p in sharded.glob("*.safetensors"))
    with safe_open(sharded / names[0], "pt") as file:
        tensor = next(iter(file.keys()))
    change_index(sharded, lambda index: index["weight_map"].update({tensor: names[1]}))
    with pytest.raises(UserError, match=f"{re.escape(tensor)} in {re.escape(names[1])}.*; {re.escape(names[0])} does"):
        Weights(sharded)


@pytest.mark.parametrize("file", ["../model.safetensors", "/etc/passwd", 3])
def test_index_that_leaves_the_folder(sharded, file):
    change_index(sharded, lambda index: index["weight_map"].update({"lm_head.weight": file}))
    with pytest.raises(UserError, match="which is no file name"):
        Weights(sharded)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"weight_map": {}}'])
def test_broken_index(tmp_path, text):
    (tmp_path / "model.safetensors.index.json").write_text(text)
    with pytest.raises(UserError, match=r"index\.json"):
        Weights(tmp_path)


def test_no_weights(tmp_path):
    (tmp_path / "flax_model.msgpack").touch()
    with pytest.raises(UserError, match=r"has no weights; it holds flax_model.msgpack"):
        Weights(tmp_path)
