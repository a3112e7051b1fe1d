"""A training job on the tiny world."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clp_transfer.train.job import (
    ArchitectureConfig,
    BudgetConfig,
    DeepSpeedConfig,
    OptimConfig,
    TrainConfig,
    TrainJob,
    ValidationConfig,
    WandbConfig,
)


@pytest.fixture
def make_job(world: Any, tmp_path: Path) -> Callable[..., TrainJob]:
    """`make_job(field=value, …)`: a run of 12 steps of 4 sequences of 32 tokens, single-threaded, in float32."""

    def make(**changes: Any) -> TrainJob:
        values = {
            "name": "test/run",
            "group": "test",
            "job_type": "clp",
            "out": tmp_path / "runs" / "run",
            "model": world.source,
            "architecture": ArchitectureConfig(),
            "tokenizer": world.target_tokenizer,
            "train_pack": world.train_pack,
            "validation_pack": world.validation_pack,
            "budget": BudgetConfig(tokens=12 * 128, batch_tokens=128, sequence_length=32, micro_batch=2),
            "optim": OptimConfig(lr=1e-3),
            "validation": ValidationConfig(points=3, max_bytes=1000, batch_size=8),
            "train": TrainConfig(precision="fp32", threads=1, checkpoint_minutes=60, log_seconds=0),
            "deepspeed": DeepSpeedConfig(),
            "wandb": WandbConfig(mode="disabled"),
            "seed": 1,
            "language": "de",
            "base_model": "source",
        }
        return TrainJob(**(values | {"model": _fitting(world)} | changes))

    return make


def _fitting(world: Any) -> Path:
    """A model with the target's tokenizer: the helper is one."""
    return world.helper
