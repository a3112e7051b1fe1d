"""FLOPs and MFU against hand-computed figures of two models."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, BloomConfig, GPT2Config, LlamaConfig, Qwen3Config

from clp_transfer.train import flops


def empty(config: Any) -> Any:
    """A model without memory."""
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


def test_gpt2_xl() -> None:
    """48 layers of 12 · 1600² and a head of 50,257 rows, at 1,024 tokens."""
    model = empty(GPT2Config(n_embd=1600, n_layer=48, n_head=25))
    assert flops.parameters(model)[0] == 1_557_611_200
    matrices = 48 * 12 * 1600**2 + 50_257 * 1600
    attention = 12 * 48 * 1600 * 1024
    assert flops.per_token(model, 1024) == 6 * matrices + attention == 10_273_545_600
    assert flops.mfu(40_000, flops.per_token(model, 1024), 1, "NVIDIA H100 80GB HBM3") == pytest.approx(
        0.41534, abs=1e-4
    )


def test_bloom_1b7() -> None:
    """24 layers of 12 · 2048² and a tied head of 250,880 rows, at 2,048 tokens."""
    model = empty(BloomConfig(hidden_size=2048, n_layer=24, n_head=16))
    assert flops.parameters(model)[0] == 1_722_408_960
    matrices = 24 * 12 * 2048**2 + 250_880 * 2048
    assert flops.per_token(model, 2048) == 6 * matrices + 12 * 24 * 2048 * 2048 == 11_538_530_304


def test_head_width_and_untied_tables() -> None:
    shape = {"vocab_size": 100, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3}
    llama = empty(LlamaConfig(**shape, num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=False))
    one = 32 * 32 + 2 * 32 * 16 + 32 * 32 + 3 * 32 * 48  # queries, keys and values, output, gate and up and down
    assert flops.per_token(llama, 10) == 6 * (3 * one + 100 * 32) + 12 * 3 * 32 * 10
    qwen = empty(Qwen3Config(**shape, num_attention_heads=4, num_key_value_heads=2, head_dim=16))
    one = 32 * 64 + 2 * 32 * 32 + 64 * 32 + 3 * 32 * 48
    assert flops.per_token(qwen, 10) == 6 * (3 * one + 100 * 32) + 12 * 3 * 64 * 10


@pytest.mark.parametrize(
    ("name", "teraflops"),
    [
        ("NVIDIA H100 80GB HBM3", 989.4), ("NVIDIA H100 PCIe", 756), ("NVIDIA H200", 989.4), ("NVIDIA H100 NVL", 835),
        ("NVIDIA A100-SXM4-80GB", 312), ("NVIDIA A100-PCIE-40GB", 312), ("NVIDIA L40S", 362.05),
        ("NVIDIA GeForce RTX 4090", 165.2), ("NVIDIA A10", 125), ("NVIDIA A10G", 70), ("Tesla V100-SXM2-16GB", 125),
        ("Tesla V100-PCIE-32GB", 112), ("Tesla T4", 65), ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("NVIDIA GeForce RTX 3060", None), ("cpu", None), ("NVIDIA T400", None),
    ],
)  # fmt: skip
def test_peaks(name: str, teraflops: float | None) -> None:
    assert flops.peak(name) == (None if teraflops is None else pytest.approx(teraflops * 1e12))


def test_mfu_is_of_all_devices() -> None:
    assert flops.mfu(1e4, 1e10, 4, "NVIDIA A100-SXM4-40GB") == pytest.approx(1e14 / (4 * 312e12))
    assert flops.mfu(1e4, 1e10, 4, "AMD EPYC") is None
