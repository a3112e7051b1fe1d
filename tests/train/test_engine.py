"""The accelerate set-up: what is asked for is what one gets."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from clp_transfer.errors import UserError
from clp_transfer.train import engine
from clp_transfer.train.job import DeepSpeedConfig


def made(make_job: Any, precision: str = "fp32", width: int | None = None, **settings: Any) -> dict[str, Any]:
    job = make_job(deepspeed=DeepSpeedConfig(**settings))
    return engine.deepspeed_config(replace(job, train=replace(job.train, precision=precision)), 2, 4, width)


@pytest.mark.parametrize("offload", [False, True])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "bf16_pure", "fp16"])
@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_the_deepspeed_config_is_accepted_by_deepspeed(make_job, stage: int, precision: str, offload: bool) -> None:
    from deepspeed.runtime.config import DeepSpeedConfig as TheirConfig

    config = made(make_job, precision, 16, stage=stage, offload_optimizer=offload, bucket_size=1000)
    config["train_batch_size"] = 8
    theirs = TheirConfig(config)
    zero = theirs.zero_config
    assert theirs.zero_optimization_stage == stage and theirs.gradient_clipping == 1.0
    assert (zero.reduce_bucket_size, zero.allgather_bucket_size, zero.overlap_comm) == (1000, 1000, True)
    assert (zero.offload_optimizer is not None) == offload
    assert zero.round_robin_gradients == (offload and stage in (1, 2))
    assert zero.param_persistence_threshold == (160 if stage == 3 else 100_000)
    assert zero.prefetch_bucket_size == (1000 if stage == 3 else 50_000_000)
    if precision == "fp32":
        assert not (theirs.bfloat16_config.enabled or theirs.float16_config.enabled or theirs.torch_autocast_enabled)
    elif stage == 0:
        assert theirs.torch_autocast_enabled and not theirs.bfloat16_config.enabled
        assert theirs.torch_autocast_dtype == (torch.float16 if precision == "fp16" else torch.bfloat16)
    else:
        assert theirs.bfloat16_config.enabled == precision.startswith("bf16")
        assert theirs.float16_config.enabled == (precision == "fp16")
        assert (theirs.communication_data_type, theirs.grad_accum_dtype) == (torch.float32, "fp32")


@pytest.mark.parametrize(
    ("precision", "settings", "told"),
    [
        ("fp16", {}, "use bf16 or fp32 on a CPU"),
        ("bf16_pure", {"stage": 0}, "use deepspeed=none, or a stage from 1 to 3"),
        ("fp32", {"offload_optimizer": True}, "a stage from 1 to 3"),
        ("fp32", {"stage": 0, "offload_optimizer": True}, "deepspeed=zero3_offload"),
    ],
)
def test_what_cannot_be_is_told(make_job, precision: str, settings: dict[str, Any], told: str) -> None:
    job = make_job(deepspeed=DeepSpeedConfig(**settings))
    with pytest.raises(UserError) as error:
        engine.build(replace(job, train=replace(job.train, precision=precision)), 1, 1)
    assert told in str(error.value)


def test_held_counts_weights_moments_and_masters_once() -> None:
    model = torch.nn.Linear(10, 10, bias=False)
    optimizer = torch.optim.AdamW(model.parameters())
    assert engine.held(model, optimizer) == {"parameters": 400, "optimizer": 0}
    model(torch.ones(1, 10)).sum().backward()
    optimizer.step()
    assert engine.held(model, optimizer) == {"parameters": 400, "optimizer": 800}
    half = torch.nn.Linear(10, 10, bias=False, dtype=torch.bfloat16)
    assert engine.held(half, optimizer) == {"parameters": 200, "optimizer": 1200}  # its float32 weights are masters
