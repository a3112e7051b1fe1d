"""Run by test_loss.py under torchrun: the chunked loss on plain ranks and under DeepSpeed ZeRO 3."""

from __future__ import annotations

import os
from typing import Any

os.environ["DS_ACCELERATOR"] = "cpu"

import deepspeed
import torch
from transformers import AutoModelForCausalLM, BloomConfig, LlamaConfig

from clp_transfer.train import attention
from clp_transfer.train.loss import CausalLoss

LLAMA = {"vocab_size": 60, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
CONFIGS = [
    LlamaConfig(**LLAMA, tie_word_embeddings=True, initializer_range=0.1),
    LlamaConfig(**LLAMA, tie_word_embeddings=False, initializer_range=0.1),
    BloomConfig(vocab_size=60, hidden_size=32, n_layer=2, n_head=4, initializer_range=0.1),
]


def curve(config: Any, stage: int, fused: bool) -> list[float]:
    """The losses of four steps, each over all ranks."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    attention.fuse_bloom(model)
    module = CausalLoss(model, fused)
    assert module.fused == fused
    zero = {"stage": stage} | ({"stage3_param_persistence_threshold": 0} if stage == 3 else {})
    settings = {"train_micro_batch_size_per_gpu": 2, "zero_optimization": zero, "zero_allow_untested_optimizer": True}
    settings["zero_force_ds_cpu_optimizer"] = False
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-2)
    engine, *_ = deepspeed.initialize(model=module, optimizer=optimizer, config=settings)
    draw, losses = torch.Generator().manual_seed(1), []
    rank, ranks = torch.distributed.get_rank(), torch.distributed.get_world_size()
    for _ in range(4):
        ids = torch.randint(0, 60, (4, 17), generator=draw)[rank::ranks]
        loss = engine(ids[:, :-1].contiguous(), ids[:, 1:].contiguous())
        engine.backward(loss)
        engine.step()
        total = loss.detach().clone()
        torch.distributed.all_reduce(total)
        losses.append(float(total) / ranks)
    if stage == 3:
        assert not model.get_output_embeddings().weight.numel()  # it is split between steps
    return losses


if __name__ == "__main__":
    deepspeed.init_distributed("gloo")
    compared = 0
    for config in CONFIGS:
        plain = torch.tensor(curve(config, 0, fused=False))
        for fused in (False, True):
            torch.testing.assert_close(torch.tensor(curve(config, 3, fused)), plain, rtol=1e-4, atol=0)
            compared += 1
    print(f"{compared} curves are the same")
