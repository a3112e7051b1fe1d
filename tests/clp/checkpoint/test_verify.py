"""A written model that is wrong in any one way is found out."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from clp_transfer.clp.checkpoint.configs import write_configs
from clp_transfer.clp.checkpoint.layout import find_layout
from clp_transfer.clp.checkpoint.rewrite import write
from clp_transfer.clp.checkpoint.verify import verify
from clp_transfer.clp.checkpoint.weights import Weights
from clp_transfer.errors import UserError

ROWS = 340


@pytest.fixture
def written(world, tmp_path):
    """A source, and its target as it should be."""
    source = Weights(world.untied)
    layout = find_layout(world.untied, source)
    generator = torch.Generator().manual_seed(1)
    replaced = {name: torch.randn(ROWS, 32, generator=generator) for name in (layout.input, layout.head)}
    write(source, layout, replaced, tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(world.target_tokenizer)
    write_configs(world.untied, world.target_tokenizer, tokenizer, ROWS, tmp_path)
    return tmp_path, source, layout, replaced


def change_tensors(out, change) -> None:
    tensors = load_file(out / "model.safetensors")
    change(tensors)
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})


def test_what_was_written_is_right(written):
    verify(*written)


def test_sharded_pickled_and_identical(world, make_family, tmp_path):
    for case, save in (("single", {}), ("sharded", {"max_shard_size": "8KB"})):
        made = make_family("llama-untied", save=save, vocab_size=340)
        source = Weights(made.folder)
        layout = find_layout(made.folder, source)
        out = tmp_path / case
        out.mkdir()
        write(source, layout, {}, out, "auto")
        write_configs(
            made.folder, world.target_tokenizer, AutoTokenizer.from_pretrained(world.target_tokenizer), 340, out, True
        )
        verify(out, source, layout, {})


NORM = "model.norm.weight"
DAMAGE = {
    "on one side only": lambda t: t.pop(NORM),
    "extra.*on one side only": lambda t: t.update(extra=torch.zeros(1)),
    f"{NORM} is F16 .*not F32": lambda t: t.update({NORM: t[NORM].half()}),
    f"{NORM} is F32 .*33": lambda t: t.update({NORM: torch.zeros(33)}),
    f"{NORM} differs from the source's": lambda t: t[NORM].__setitem__(-1, 9.0),
    "embed_tokens.weight are not the ones": lambda t: t["model.embed_tokens.weight"].__setitem__((339, 31), 9.0),
    "lm_head.weight are not the ones": lambda t: t["lm_head.weight"].__setitem__((0, 0), float("nan")),
}


@pytest.mark.parametrize("message", DAMAGE)
def test_wrong_tensors(written, message):
    change_tensors(written[0], DAMAGE[message])
    with pytest.raises(UserError, match=message):
        verify(*written)


def test_wrong_config_and_tokenizer(written, world):
    out = written[0]
    config = json.loads((out / "config.json").read_text())
    (out / "config.json").write_text(json.dumps(config | {"vocab_size": 330}))
    with pytest.raises(UserError, match=r"vocab_size \[330\], the tables have 340 rows"):
        verify(*written)
    (out / "config.json").write_text(json.dumps(config))
    tokenizer = AutoTokenizer.from_pretrained(out)
    tokenizer.add_tokens(["Donaudampfschiff"])
    tokenizer.save_pretrained(out)
    with pytest.raises(UserError, match="ids up to 340, the tables 340 rows"):
        verify(*written)
    (out / "tokenizer.json").unlink()
    with pytest.raises(UserError, match="no usable tokenizer"):
        verify(*written)


def test_cut_off(written):
    out = written[0]
    shutil.copyfile(out / "model.safetensors", out / "whole")
    (out / "model.safetensors").write_bytes((out / "whole").read_bytes()[:-4])
    with pytest.raises(UserError, match="is damaged"):
        verify(*written)
