"""The library as a notebook uses it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

import clp_transfer
from clp_transfer.clp.job import MethodConfig
from clp_transfer.errors import UserError

INPUT = "model.embed_tokens.weight"


def test_three_lines_in_a_notebook(world, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example of the package's docstring, on this world's models: what it says must run."""
    doc = clp_transfer.__doc__ or ""
    lines = [line.strip() for line in doc.splitlines() if line.startswith("    ")]
    assert len(lines) == 3 and lines[0] == "import clp_transfer"
    code = "\n".join(lines).replace("path/or/id/of/source", str(world.source))
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(code.replace("path/or/id/of/helper", str(world.helper)), names)
    model, tokenizer = (one.from_pretrained("target") for one in (AutoModelForCausalLM, AutoTokenizer))
    assert torch.equal(model.get_input_embeddings().weight, names["result"].input)
    assert names["result"].report["method"] == "ridge"
    inputs = tokenizer("Das Haus", return_tensors="pt")
    assert model.generate(**inputs, max_new_tokens=4, do_sample=False).shape[1] > inputs["input_ids"].shape[1]


def test_importing_the_package_does_not_load_torch() -> None:
    """The command line refuses a wrong key before it pays for that."""
    code = (
        "import sys, clp_transfer; assert {'transfer', 'transfer_rows', 'TransferResult'} <= set(dir(clp_transfer)); "
        "assert 'torch' not in sys.modules; clp_transfer.transfer; assert 'torch' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="no attribute 'transform'"):
        _ = clp_transfer.transform
    assert all(getattr(clp_transfer, name) for name in clp_transfer.__all__)


def test_a_method_with_options_in_two_ways(world) -> None:
    """By name with keywords, or as one value; the report tells those that count."""
    one = clp_transfer.transfer(world.source, world.helper, "clp-topk", top_k=3, temperature=0.5)
    other = clp_transfer.transfer(world.source, world.helper, MethodConfig("clp-topk", top_k=3, temperature=0.5))
    plain = clp_transfer.transfer(world.source, world.helper, "clp-topk")
    assert torch.equal(one.input, other.input) and not torch.equal(one.input, plain.input)
    assert one.report["options"]["top_k"] == 3 and "atoms" not in one.report["options"]


def test_names_may_be_strings_paths_or_a_list(world) -> None:
    one, *others = (
        clp_transfer.transfer(str(world.source), helper).input
        for helper in (str(world.helper), world.helper, [world.helper])
    )
    assert all(torch.equal(one, other) for other in others)
    bare = clp_transfer.transfer(world.source, method="fvt", tokenizer=world.target_tokenizer)
    assert torch.equal(bare.input, clp_transfer.transfer(world.source, world.helper, "fvt").input)


def test_seeds(world) -> None:
    one, again, other = (clp_transfer.transfer(world.source, world.helper, "random", seed=s).input for s in (1, 1, 2))
    assert torch.equal(one, again) and not torch.equal(one, other)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"colour": "red"}, r"no method option is called colour"),
        ({"method": "clpp"}, "clpp is unknown"),
        ({"method": "clp-topk", "top_k": 0}, "top_k=0"),
        ({"method": "clp", "weighting": "loud"}, "weighting=loud"),
        ({"method": "ridge", "ridge": -1.0}, r"ridge=-1.0 makes no sense"),
        ({"method": "ridge", "frequency_power": 0.5}, "needs target-language text"),
        ({"method": "calibrate"}, "needs target-language text"),
        ({"helper": None}, "neither a helper nor a tokenizer"),
        ({"source": "/no/such/model"}, "/no/such/model"),
        ({"device": "abacus"}, "device=abacus cannot be used"),
    ],
)
def test_what_is_refused(world, changes: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        clp_transfer.transfer(**({"source": world.source, "helper": world.helper} | changes))


def test_nothing_is_written_before_save(world, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = clp_transfer.transfer(world.untied, world.helper)
    assert result.input.shape == (340, 32) and result.head is not None and result.head.shape == (340, 32)
    assert result.input.dtype == torch.float32 and len(result.tokenizer) == 340
    assert result.provenance.num_rows == 340 and "straße" in result.explain("straße")
    json.dumps(result.report)
    assert not list(tmp_path.iterdir())
    assert clp_transfer.transfer(world.source, world.helper).head is None


def test_save_refuses_what_exists_and_overwrite_swaps(world, tmp_path: Path) -> None:
    """The old model stays whole until the new one is; what was in its folder alone does not stay behind."""
    out = tmp_path / "deep" / "target"
    one, other = (clp_transfer.transfer(world.source, world.helper, method) for method in ("mean", "fvt"))
    assert one.save(out) == out
    with pytest.raises(UserError, match="exists"):
        other.save(out)
    assert torch.equal(load_file(out / "model.safetensors")[INPUT], one.input)
    (out / "old-shard.safetensors").write_text("old")
    other.save(str(out), overwrite=True)
    assert torch.equal(load_file(out / "model.safetensors")[INPUT], other.input)
    assert not (out / "old-shard.safetensors").exists()
    assert [path.name for path in out.parent.iterdir() if not path.name.endswith(".lock")] == ["target"]


def test_a_save_that_fails_leaves_the_old_model(world, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "target"
    one, other = (clp_transfer.transfer(world.source, world.helper, method) for method in ("mean", "fvt"))
    one.save(out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}

    def fail(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("clp_transfer.clp.result.verify", fail)
    with pytest.raises(KeyboardInterrupt):
        other.save(out, overwrite=True)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir() if not path.name.endswith(".lock")] == ["target"]


def test_padded_rows(world, tmp_path: Path) -> None:
    result = clp_transfer.transfer(world.untied, world.helper)
    tables = load_file(result.save(tmp_path / "target", pad_to_multiple_of=64) / "model.safetensors")
    for name, table in ((INPUT, result.input), ("lm_head.weight", result.head)):
        assert len(tables[name]) == 384 and torch.equal(tables[name][:340], table)
        torch.testing.assert_close(tables[name][340:], table.mean(dim=0).expand(44, -1))
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "target").config.vocab_size == 384
