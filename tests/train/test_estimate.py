"""The plan for a model on some GPUs, against numbers worked out by hand and models that transformers builds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, BloomConfig, GPT2Config, LlamaConfig

from clp_transfer.errors import UserError
from clp_transfer.train import estimate as planned
from clp_transfer.train import flops
from clp_transfer.train.estimate import GIB, MACHINES, SIZES, Machine, Shape, estimate

DOCS = Path(__file__).resolve().parents[2] / "docs" / "scaling.md"
# 100 million parameters, 10 of them in tables; 12.8 million in the largest layer.
SMALL = Shape(100_000_000, 10_000_000, 10, 1000, 12_800, 1024)
NODE, CLUSTER = Machine(8, 80, 1e15), Machine(16, 80, 1e15)


def test_the_gpt2_shapes_are_those_of_the_released_models() -> None:
    assert planned.gpt2_shape(12, 768, 1024, 50_257).parameters == 124_439_808
    assert planned.gpt2_shape(48, 1600, 1024, 50_257).parameters == 1_557_611_200


@pytest.mark.parametrize(
    "config",
    [
        GPT2Config(n_layer=2, n_embd=32, n_head=2, n_positions=64, vocab_size=300, bos_token_id=0, eos_token_id=0),
        BloomConfig(n_layer=2, hidden_size=32, n_head=2, vocab_size=300, bos_token_id=0, eos_token_id=0),
        LlamaConfig(num_hidden_layers=2, hidden_size=32, num_attention_heads=2, intermediate_size=64, vocab_size=300),
    ],
    ids=["gpt2", "bloom", "llama"],
)
def test_a_models_shape_costs_what_flops_counts(config) -> None:
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    shape = planned.shape_of(model, 64)
    assert shape.parameters == sum(p.numel() for p in model.parameters())
    assert (shape.layers, shape.width, shape.vocabulary) == (2, 32, 300)
    # It counts norms and biases as matrices, a few hundred numbers here.
    assert shape.flops_per_token == pytest.approx(flops.per_token(model, 64), rel=0.05)
    assert shape.block == (planned.GATED if config.model_type == "llama" else planned.PLAIN)
    if config.model_type == "gpt2":
        assert shape == planned.gpt2_shape(2, 32, 64, 300)


def test_flops_by_hand() -> None:
    # 90 million in blocks and 12.8 in the head, six times; and 12 · 10 · 1000 · 1024 for the scores.
    assert SMALL.flops_per_token == 6 * 102_800_000 + 122_880_000


START = 600_000_000  # bytes of a process that reads the model: 4 a parameter, and half as much again


@pytest.mark.parametrize(
    ("name", "machine", "gpu", "cpu"),
    [
        ("none", NODE, 1_800_000_000, 8 * START),
        ("zero1", NODE, 800_000_000 + 150_000_000, 8 * START),
        ("zero2", NODE, 200_000_000 + 225_000_000, 8 * START),
        ("zero2", CLUSTER, 200_000_000 + 112_500_000, 8 * START),
        ("zero3", NODE, 4 * 12_800_000 + 225_000_000, 8 * START),
        ("zero3_offload", NODE, 4 * 12_800_000 + 25_000_000, 8 * START),
        ("zero3_offload", Machine(1, 24, 1e15), 4 * 12_800_000 + 200_000_000, 4 * START),  # 16 bytes a parameter
    ],
)
def test_states_by_hand(name: str, machine: Machine, gpu: int, cpu: int) -> None:
    buckets = 0 if name == "none" else 1_000_000_000
    assert planned.states_bytes(SMALL, machine, name) == (gpu + buckets, cpu)


def test_activations_by_hand() -> None:
    once = GIB + 4 * 12_800 * 1000
    assert planned.activation_bytes(SMALL, False) == (once, 1024 * 1000 * (10 * 40 + 4))
    assert planned.activation_bytes(SMALL, True) == (once, 1024 * 1000 * (10 * 2 + 40 + 4))
    assert planned.activation_bytes(replace(SMALL, block=60), False) == (once, 1024 * 1000 * (10 * 60 + 4))


def test_time_by_hand() -> None:
    found = estimate(SMALL, Machine(1, 80, 1e15), 10**9)
    assert (found.deepspeed, found.recompute, found.mfu) == ("none", False, 0.4)
    assert found.tokens_per_second == pytest.approx(0.4 * 1e15 / SMALL.flops_per_token)
    assert found.hours == pytest.approx(10**9 * SMALL.flops_per_token / (0.4 * 1e15) / 3600)
    # 0.9 of 80 GiB less 1.8 GB less 1 GiB and the head's gradient, by 414 MB a sequence, is 180; no more than 32 help.
    assert found.micro_batch == 32
    small = estimate(SMALL, Machine(1, 10, 1e15), 10**9)
    # 0.9 · 10.74 - 1.8 - 1.07 - 0.05 = 6.74 GB: sixteen sequences and a quarter.
    assert small.micro_batch == 16


def test_a_batch_bounds_the_micro_batch() -> None:
    def micro_batch(machine: Machine, sequences: int) -> int:
        return estimate(SMALL, machine, 10**9, batch_tokens=1024 * sequences).micro_batch

    one = Machine(1, 80, 1e15)
    assert [micro_batch(one, n) for n in (1, 12, 32, 48)] == [1, 12, 32, 32]
    assert [micro_batch(NODE, n) for n in (8, 64, 1024)] == [1, 8, 32]
    with pytest.raises(UserError, match="a batch of 12 sequences does not fit 8 GPUs"):
        micro_batch(NODE, 12)
    with pytest.raises(UserError, match="a batch of 1,000 tokens is no whole number of sequences of 1,024"):
        estimate(SMALL, one, 10**9, batch_tokens=1000)
    # A batch smaller than what keeps a GPU busy is no reason to recompute or to shard.
    assert estimate(SMALL, NODE, 10**9, batch_tokens=8192).deepspeed == "none"


def test_the_ways_follow_from_the_room() -> None:
    big = SIZES["6.4B"]
    ways = [estimate(big, Machine(8, memory, 1e15), 10**9) for memory in (640, 160, 80, 40, 24)]
    order = [(way.recompute, way.deepspeed) for way in ways]
    assert order == sorted(order) and len(set(order)) >= 4
    assert estimate(big, Machine(1, 24, 1e15), 10**9).deepspeed == "zero3_offload"
    with pytest.raises(UserError, match="do not fit on 1 GPUs of 24 GB"):
        estimate(replace(big, parameters=100_000_000_000), Machine(1, 24, 1e15), 10**9)


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
@pytest.mark.parametrize("name", SIZES)
def test_what_is_planned_fits(name: str, machine: Machine) -> None:
    found = estimate(SIZES[name], machine, 10**9)
    assert found.micro_batch >= 1 and found.memory <= 0.9 * machine.memory_gb


def test_the_docs_have_this_table() -> None:
    assert planned.table(SIZES, 10**9) in DOCS.read_text()
