"""Made-up checkpoints are what transformers itself would have written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, BloomConfig, LlamaConfig, PretrainedConfig

from clp_transfer.bench.checkpoints import bytes_of, grown_tokenizer, trained_tokenizer, write_model

IDS = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}


def bloom() -> PretrainedConfig:
    return BloomConfig(vocab_size=416, hidden_size=32, n_layer=2, n_head=2, **IDS)


def llama(tied: bool) -> PretrainedConfig:
    return LlamaConfig(
        vocab_size=400,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        tie_word_embeddings=tied,
        **IDS,
    )


@pytest.mark.parametrize("tied", [True, False])
def test_transformers_loads_every_tensor(tied: bool, tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m", llama(tied), grown_tokenizer(400, seed=1), seed=1)
    model, found = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not found["missing_keys"] and not found["unexpected_keys"] and not found["mismatched_keys"]
    assert model.dtype == torch.bfloat16
    tensors = load_file(folder / "model.safetensors")
    assert ("lm_head.weight" in tensors) is not tied
    assert torch.equal(model.get_output_embeddings().weight, tensors["lm_head.weight" if not tied else TABLE])
    assert (folder / "model.safetensors").stat().st_size - bytes_of(llama(tied)) < 10_000
    assert tensors[TABLE].float().std(dim=0).mean() == pytest.approx(0.02, rel=0.1)


TABLE = "model.embed_tokens.weight"


def test_shards_stay_below_their_limit_and_hold_the_same(tmp_path: Path) -> None:
    tokenizer = grown_tokenizer(400, seed=1)
    whole = write_model(tmp_path / "whole", bloom(), tokenizer, seed=1, dtype=torch.float32)
    cut = write_model(tmp_path / "cut", bloom(), tokenizer, seed=1, dtype=torch.float32, shard_bytes=60_000)
    index = json.loads((cut / "model.safetensors.index.json").read_text())
    files = sorted(path.name for path in cut.glob("*.safetensors"))
    assert len(files) > 2 and files == sorted(set(index["weight_map"].values()))
    assert all((cut / name).stat().st_size < 65_000 for name in files)
    expected = load_file(whole / "model.safetensors")
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in expected.values())
    found = {key: tensor for name in files for key, tensor in load_file(cut / name).items()}
    assert set(found) == set(expected) and all(torch.equal(found[key], expected[key]) for key in found)
    model = AutoModelForCausalLM.from_pretrained(cut)
    assert torch.equal(model.get_input_embeddings().weight, expected["transformer.word_embeddings.weight"])


@pytest.mark.parametrize("make", [grown_tokenizer, lambda size, seed: trained_tokenizer(size, seed=seed, quick=True)])
def test_tokenizers_have_the_size_asked_for_and_write_any_text(make, tmp_path: Path) -> None:
    write_model(tmp_path / "m", llama(True), make(400, seed=3), seed=1)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "m")
    assert sorted(tokenizer.get_vocab().values()) == list(range(400))
    assert tokenizer.eos_token_id == 0
    text = "Straße über 12 Häuser"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_a_grown_tokenizer_has_words_and_merges() -> None:
    tokenizer = grown_tokenizer(3_000, seed=1)
    assert max(map(len, tokenizer.get_vocab())) > 10
    text = " der die das und Haus"
    assert len(tokenizer.encode(text).tokens) < len(text)
