"""The precision that a machine chooses: by its instructions; told where it changes; never part of the key."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from typing import Any

import pytest
import torch

from clp_transfer.train import precision
from clp_transfer.train.job import TrainConfig
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
    assert precision.settled(job).train.settled == ("bf16" if capable else "fp32")


def test_what_is_set_stays_and_a_slow_choice_is_told(make_job, capable: bool, caplog) -> None:
    for own in ("fp32", "bf16", "bf16_pure"):
        caplog.clear()
        assert precision.settled(make_job(train=replace(OPEN, precision=own))).train.settled == own
        told = "no bfloat16 instructions" in caplog.text
        assert told == (own != "fp32" and not capable)


def test_a_gpu_has_it_whatever_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "fast_bfloat16_processor", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert precision.machine_precision() == "bf16"


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


def test_a_run_that_goes_on_in_another_precision_says_so(make_job, tmp_path, caplog) -> None:
    begun = tmp_path / "config.json"
    job = make_job(train=replace(OPEN, precision="fp32"))
    with caplog.at_level(logging.WARNING):
        precision.tell_of_change(job, begun)
        begun.write_text(json.dumps({"train": {"precision": "fp32"}}))
        precision.tell_of_change(job, begun)
        assert not caplog.records
        begun.write_text(json.dumps({"train": {"precision": "bf16"}}))
        precision.tell_of_change(job, begun)
    assert "began in bf16" in caplog.text and "goes on in fp32" in caplog.text
