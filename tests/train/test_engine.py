"""The accelerate set-up: what is asked for is what one gets."""

from __future__ import annotations

import pytest

from clp_transfer.train import engine
from clp_transfer.train.job import DeepSpeedConfig


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_the_deepspeed_config_is_accepted_by_deepspeed(make_job, stage: int) -> None:
    from deepspeed.runtime.config import DeepSpeedConfig as TheirConfig

    made = engine.deepspeed_config(make_job(deepspeed=DeepSpeedConfig(stage=stage)), 2, 4)
    made["train_batch_size"] = 8
    theirs = TheirConfig(made)
    assert theirs.zero_optimization_stage == stage
    assert theirs.gradient_clipping == 1.0
