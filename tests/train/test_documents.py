"""The document mask: a packed sequence gives the logits of each document alone, in every family that has one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    FalconConfig,
    Gemma2Config,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    MptConfig,
    OPTConfig,
    Qwen2Config,
)

from clp_transfer.errors import UserError
from clp_transfer.train import attention, blocked, documents

SHAPE = {
    "vocab_size": 60, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
    "num_key_value_heads": 2, "initializer_range": 0.3, "head_dim": 8, "max_position_embeddings": 64,
}  # fmt: skip
FAMILIES = {
    "llama": LlamaConfig(**SHAPE),
    "qwen2": Qwen2Config(**SHAPE),
    "mistral with a window of 3": MistralConfig(**SHAPE, sliding_window=3),
    "gemma2 with a window of 3": Gemma2Config(**SHAPE, sliding_window=3),
    "gpt2": GPT2Config(vocab_size=60, n_embd=32, n_layer=2, n_head=4, n_positions=64, initializer_range=0.3),
    "gpt-neox": GPTNeoXConfig(**{**SHAPE, "num_key_value_heads": 4}),
    "bloom": BloomConfig(vocab_size=60, hidden_size=24, n_layer=2, n_head=6, initializer_range=0.3),
}  # fmt: skip
SEGMENTS = torch.tensor([[0] * 5 + [1] + [2] * 14, [7] * 20, [3] * 19 + [4]])


def model_of(config: Any) -> Any:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config).eval()


def alone(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """Each document by itself, put together again."""
    rows = []
    for row, segments in zip(ids, SEGMENTS, strict=True):
        lengths = segments.unique_consecutive(return_counts=True)[1].tolist()
        rows.append(torch.cat([model(input_ids=part[None]).logits[0] for part in row.split(lengths)]))
    return torch.stack(rows)


def test_positions_and_mask_by_hand() -> None:
    segments = torch.tensor([[4, 4, 5, 5, 5, 4]])
    assert documents.positions(segments).tolist() == [[0, 1, 0, 1, 2, 0]]
    seen = ["100000", "110000", "001000", "001100", "001110", "000001"]  # the second document 4 is another one
    assert documents.mask(segments)[0, 0].int().tolist() == [[int(one) for one in row] for row in seen]


@pytest.mark.parametrize("implementation", ["sdpa", "eager", blocked.NAME])
@pytest.mark.parametrize("family", FAMILIES)
def test_packed_equals_alone(family: str, implementation: str) -> None:
    model = model_of(FAMILIES[family])
    ids = torch.randint(0, 60, SEGMENTS.shape, generator=torch.Generator().manual_seed(1))
    expected = alone(model, ids)
    if family == "bloom":
        attention.fuse_bloom(model, {"sdpa": "bias", "eager": "columns"}.get(implementation, "auto"))
    elif model._supports_sdpa:
        model.set_attn_implementation(implementation)
    documents.check(model)
    seeing = model(input_ids=ids, use_cache=False).logits
    found = model(input_ids=ids, use_cache=False, **documents.arguments(model, SEGMENTS)).logits
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
    assert not torch.allclose(seeing, expected, rtol=1e-2, atol=1e-2)


def test_gradients_stay_within_documents() -> None:
    for family in ("llama", "bloom", "gpt2"):
        model = model_of(FAMILIES[family]).train()
        attention.fuse_bloom(model)
        inputs = model.get_input_embeddings()(torch.arange(20)[None]).detach().requires_grad_()
        more = documents.arguments(model, SEGMENTS[:1])
        with torch.autocast("cpu", torch.bfloat16):
            model(inputs_embeds=inputs, use_cache=False, **more).logits[0, 6:].sum().backward()
        assert inputs.grad is not None
        assert not inputs.grad[0, :6].any()
        assert inputs.grad[0, 6:].any()


@pytest.mark.parametrize(
    "config",
    [
        MambaConfig(vocab_size=60, hidden_size=16, num_hidden_layers=1, state_size=4),
        MptConfig(vocab_size=60, d_model=32, n_layers=2, n_heads=4, initializer_range=0.3),
        FalconConfig(vocab_size=60, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, alibi=True),
        OPTConfig(vocab_size=60, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, init_std=0.3),
        FAMILIES["bloom"],
    ],
    ids=["mamba", "mpt", "falcon with ALiBi", "opt", "bloom, eager"],
)
def test_families_without_a_mask_are_refused(config: Any) -> None:
    model = model_of(config)
    with pytest.raises(UserError, match="kept apart"):
        documents.check(model)
    assert not model.training
