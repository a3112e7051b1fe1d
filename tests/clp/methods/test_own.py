"""`own`: the source with its own tokenizer comes out as it went in; any other tokenizer is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import load_file
from transformers import AutoTokenizer

import clp_transfer
from clp_transfer.clp.job import MethodConfig, TransferJob
from clp_transfer.clp.run import transfer
from clp_transfer.errors import UserError


@pytest.mark.parametrize("source", ["source", "untied", "gpt2"])
def test_the_model_is_the_sources_bit_for_bit(world, tmp_path: Path, source: str) -> None:
    folder = getattr(world, source)
    transfer(TransferJob(folder, [], world.source_tokenizer, MethodConfig("own"), tmp_path / "own"))
    before, after = (load_file(path / "model.safetensors") for path in (folder, tmp_path / "own"))
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        assert after[name].dtype == tensor.dtype and after[name].numpy().tobytes() == tensor.numpy().tobytes(), name
    text = "the tree of Wasser, 12"
    old, new = (AutoTokenizer.from_pretrained(path)(text)["input_ids"] for path in (folder, tmp_path / "own"))
    assert old == new


def test_a_token_that_the_source_lacks_is_named_and_refused(world) -> None:
    with pytest.raises(UserError, match=r"method=own .* lacks \d+ of the target's tokens: '.+', …") as told:
        clp_transfer.transfer(world.source, method="own", tokenizer=world.target_tokenizer)
    assert "tokenizer=" in str(told.value) and "pack=" in str(told.value)
