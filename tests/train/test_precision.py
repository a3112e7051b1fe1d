"""The precision that a machine chooses: by its instructions; told where it changes; never part of the key."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import torch

from clp_transfer.train import precision
from clp_transfer.train.job import TrainConfig
from clp_transfer.train.loop import Loop
from clp_transfer.train.run import train

OPEN = TrainConfig(threads=1, checkpoint_minutes=60, log_seconds=0)


@pytest.fixture(params=[False, True], ids=["without bfloat16", "with bfloat16"])
def capable(request: Any, monkeypatch: pytest.MonkeyPatch) -> bool:
    """A machine without and one with instructions for bfloat16."""
    monkeypatch.setattr(precision, "_multiplies_bfloat16", lambda: request.param)
    return bool(request.param)


def test_the_machine_chooses_where_the_config_leaves_it_open(make_job, capable: bool) -> None:
    job = make_job(train=OPEN)
    assert job.train.precision is None
    assert precision.settled(job, job.plan()).train.settled == ("bf16" if capable else "fp32")


def test_what_is_set_stays_and_a_slow_choice_is_told(make_job, capable: bool, caplog) -> None:
    for own in ("fp32", "bf16", "bf16_pure"):
        caplog.clear()
        job = make_job(train=replace(OPEN, precision=own))
        assert precision.settled(job, job.plan()).train.settled == own
        told = "no instructions for bfloat16" in caplog.text
        assert told == (own != "fp32" and not capable)


@pytest.mark.parametrize("capable", [False, True])
def test_where_there_is_a_gpu_it_decides(monkeypatch: pytest.MonkeyPatch, capable: bool) -> None:
    """Not the processor, and not bfloat16 that is only emulated (V100, T4)."""
    monkeypatch.setattr(precision, "fast_bfloat16_processor", lambda: not capable)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation: capable and not including_emulation
    )
    assert precision.machine_precision() == ("bf16" if capable else "fp32")


def test_an_unsettled_precision_is_never_computed_with() -> None:
    with pytest.raises(ValueError, match="not settled"):
        _ = OPEN.settled


def test_a_run_tells_what_it_computed_in_and_is_the_same_on_every_machine(make_job, capable: bool) -> None:
    job = make_job(train=OPEN)
    summary = train(job)
    used = "bf16" if capable else "fp32"
    assert summary["precision"] == used
    assert json.loads((job.out / "config.json").read_text())["train"]["precision"] == used
    assert job.plan().settings["precision"] is None


class Died(Exception):
    """Stands for a machine that goes away."""


def test_a_run_goes_on_in_the_precision_it_began_in(make_job, monkeypatch, caplog) -> None:
    """Begun where bfloat16 is fast, gone on with where it is not; only the same plan's checkpoint counts."""
    job = make_job(train=replace(OPEN, checkpoint_minutes=1e-9))
    monkeypatch.setattr(precision, "_multiplies_bfloat16", lambda: True)
    real = Loop.step

    def step(self: Loop, number: int) -> float:
        if number == 6:
            raise Died
        return real(self, number)

    with monkeypatch.context() as patched, pytest.raises(Died):
        patched.setattr(Loop, "step", step)
        train(job)
    monkeypatch.setattr(precision, "_multiplies_bfloat16", lambda: False)
    other = replace(job, seed=2)
    assert precision.settled(other, other.plan()).train.settled == "fp32"
    assert "began in" not in caplog.text
    assert train(job)["precision"] == "bf16"
    assert "is what the run began in" in caplog.text
