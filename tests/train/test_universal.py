"""A run goes on with another number of ranks, and ends with the curve of the run that kept its number."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny.processes import run_ranks, train_job, train_until

from clp_transfer.errors import UserError
from clp_transfer.train import universal
from clp_transfer.train.job import ArchitectureConfig, DeepSpeedConfig


def curve(folder: Path) -> list[tuple[int, float]]:
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [(r["step"], r["nats_per_token"]) for r in records if r["kind"] == "validation"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "first", "then"),
    [(None, 1, 2), (None, 2, 1), (0, 2, 1), (1, 2, 1), (2, 1, 2), (2, 2, 1), (3, 1, 2), (3, 2, 1)],
)
def test_a_run_goes_on_with_another_number_of_ranks(
    make_job: Any, tmp_path: Path, stage: int | None, first: int, then: int
) -> None:
    """Step counts matter here: Adam's bias correction is still large after six steps, as is weight decay of 0.1."""
    whole = make_job(out=tmp_path / "runs" / "whole")
    assert run_ranks(1, train_job, whole) == [0]
    job = replace(whole, out=tmp_path / "runs" / "moved", deepspeed=DeepSpeedConfig(stage, bucket_size=1_000_000))
    assert run_ranks(first, train_until, job, 6) == [0] * first
    assert (job.plan().working / "checkpoints" / "step-6").is_dir()
    assert run_ranks(then, train_job, job) == [0] * then
    expected, found = dict(curve(whole.out)), dict(curve(job.out))
    assert list(found) == list(expected) == [0, 4, 8, 12]
    assert found == pytest.approx(expected, rel=1e-7)
    assert json.loads((job.out / "summary.json").read_text())["world_size"] == then


def test_what_cannot_be_converted_is_told(tmp_path: Path) -> None:
    (tmp_path / "step-3" / "deepspeed").mkdir(parents=True)
    with pytest.raises(UserError, match=r"could not convert .*step-3.*can't find(?s:.*)run it with 4 ranks again"):
        universal.convert(tmp_path / "step-3" / "deepspeed", tmp_path / "step-3.universal" / "deepspeed", 4)


@pytest.mark.slow
@pytest.mark.parametrize("stage", [None, 2, 3])
def test_with_the_same_number_it_goes_on_exactly_dropout_included(
    make_job: Any, tmp_path: Path, stage: int | None
) -> None:
    fields: dict[str, Any] = {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 64}  # dropout 0.1 as GPT-2 has
    changes = {"model": None, "architecture": ArchitectureConfig("gpt2", fields)}
    whole = make_job(deepspeed=DeepSpeedConfig(stage, bucket_size=1_000_000), **changes)
    job = replace(whole, out=tmp_path / "runs" / "resumed")
    assert run_ranks(2, train_job, whole) == [0, 0]
    assert run_ranks(2, train_until, job, 6) == [0, 0]
    assert run_ranks(2, train_job, job) == [0, 0]
    assert curve(job.out) == curve(whole.out)
    one, two = ((run.out / "model" / "model.safetensors").read_bytes() for run in (job, whole))
    assert one == two
