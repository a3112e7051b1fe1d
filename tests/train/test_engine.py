"""The accelerate set-up: what is asked for is what one gets."""

from __future__ import annotations

import socket

import pytest

from clp_transfer.errors import UserError
from clp_transfer.train import engine
from clp_transfer.train.job import DeepSpeedConfig


def test_a_port_that_is_taken_is_named(make_job, monkeypatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        rank_zero_of_two = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
        for name, value in (rank_zero_of_two | {"MASTER_PORT": port}).items():
            monkeypatch.setenv(name, value)
        with pytest.raises(UserError, match=rf"cannot meet at 127\.0\.0\.1:{port}"):
            engine.build(make_job(), 1, 1)


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_the_deepspeed_config_is_accepted_by_deepspeed(make_job, stage: int) -> None:
    from deepspeed.runtime.config import DeepSpeedConfig as TheirConfig

    made = engine.deepspeed_config(make_job(deepspeed=DeepSpeedConfig(stage=stage)), 2, 4)
    made["train_batch_size"] = 8
    theirs = TheirConfig(made)
    assert theirs.zero_optimization_stage == stage
    assert theirs.gradient_clipping == 1.0
