"""Hidden rows made again, with a helper that has the source's very rows and with one that has noise."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import tokenizers
from tiny.families import save_family

from clp_transfer.ablations.reconstruction import helpers, reconstruct, table
from clp_transfer.errors import UserError

TABLE = "model.embed_tokens.weight"


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    """A source; a helper whose rows are the source's own (base), and one with rows drawn anew."""
    source = save_model(tmp_path / "q/runs/source/model")
    rows = load_file(source / "model.safetensors")[TABLE]
    for name, made in (("q", rows), ("q-helper-tokens-2k", torch.randn(rows.shape))):
        folder = save_model(tmp_path / name / "runs/helper,seed1/model")
        save_file(load_file(folder / "model.safetensors") | {TABLE: made}, folder / "model.safetensors")
    return tmp_path


def save_model(folder: Path) -> Path:
    tokenizer = tokenizers.make("gpt2")
    save_family("llama-tied", folder, len(tokenizer))
    tokenizer.save_pretrained(folder)
    return folder


def test_a_map_from_the_very_rows_finds_them_and_one_from_noise_does_not(outputs: Path) -> None:
    found = reconstruct(outputs / "q/runs/source/model", helpers(outputs, "q"))
    own, noise = found["helpers"]["base"], found["helpers"]["helper-tokens-2k"]
    assert own["procrustes"]["error"] == pytest.approx(0.0, abs=1e-3)
    assert own["procrustes"]["cosine"] == pytest.approx(1.0, abs=1e-3)
    assert abs(noise["procrustes"]["cosine"]) < 0.3
    assert own["mean"]["error"] == pytest.approx(1.0)
    lines = table(found).splitlines()
    assert lines[0] == "| method | error, base | cosine, base | cosine, helper-tokens-2k |"
    assert next(line for line in lines if line.startswith("| procrustes")).split(" | ")[1:3] == ["0.00", "1.00"]


def test_an_experiment_without_helpers_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no helper"):
        helpers(tmp_path, "q")
