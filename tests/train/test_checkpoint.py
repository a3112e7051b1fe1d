"""A checkpoint is whole or absent, whatever happens to the disk or to the process that writes it."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import random
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from tiny.processes import fail_together, run_ranks, start, train_job, train_with_a_full_disk

from clp_transfer.errors import UserError
from clp_transfer.train import checkpoint
from clp_transfer.train.checkpoint import Progress
from clp_transfer.train.job import ArchitectureConfig, BudgetConfig, TrainConfig

KILLS, STEPS = 10, 100


class Training:
    """A few weights that learn from random numbers, with momentum."""

    def __init__(self, width: int = 8) -> None:
        AcceleratorState._reset_state(reset_partial_state=True)
        self.accelerator = Accelerator(cpu=True)
        torch.manual_seed(0)
        model = torch.nn.Linear(width, width)
        self.model, self.optimizer = self.accelerator.prepare(model, torch.optim.AdamW(model.parameters(), lr=0.1))

    def step(self) -> list[float]:
        """One update on inputs that all three kinds of random numbers make; returns some weights."""
        inputs = torch.randn(4, self.model.in_features) * random.random() + float(np.random.rand())
        self.model(torch.nn.functional.dropout(inputs)).square().sum().backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return self.model.weight.flatten()[:4].tolist()

    def save(self, folder: Path, step: int, **options: Any) -> bool:
        return checkpoint.save(self.accelerator, folder, Progress(step, 1.5, 10, 1, {"mean": 0.1}), **options)


@pytest.fixture
def training() -> Iterator[Training]:
    yield Training()
    AcceleratorState._reset_state(reset_partial_state=True)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_it_goes_on_exactly_with_weights_moments_and_random_numbers(training: Training, tmp_path: Path) -> None:
    training.step()
    assert training.save(tmp_path, 1)
    expected = [training.step() for _ in range(3)]
    again = Training()
    random.seed(7), np.random.seed(7), torch.manual_seed(7)
    assert checkpoint.resume(again.accelerator, tmp_path) == Progress(1, 1.5, 10, 1, {"mean": 0.1})
    assert [again.step() for _ in range(3)] == expected


def test_nothing_to_resume_from(training: Training, tmp_path: Path) -> None:
    assert checkpoint.resume(training.accelerator, tmp_path / "none") == Progress()
    assert checkpoint.latest(tmp_path / "none") is None


def test_the_marker_lists_every_file_with_its_size_and_hash(training: Training, tmp_path: Path) -> None:
    training.save(tmp_path, 3)
    folder = tmp_path / "step-3"
    marker = json.loads((folder / "complete.json").read_text())
    contents = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    del contents["complete.json"]
    expected = {n: {"bytes": len(c), "sha256": hashlib.sha256(c).hexdigest()} for n, c in contents.items()}
    assert marker["files"] == expected and marker["progress"]["step"] == 3


def test_the_last_and_the_permanent_ones_are_kept(training: Training, tmp_path: Path) -> None:
    for step in range(1, 9):
        training.save(tmp_path, step, keep=2, permanent=step % 4 == 0)
    assert names(tmp_path) == ["step-4", "step-6", "step-7", "step-8"]
    assert training.save(tmp_path, 9, keep=2) and names(tmp_path) == ["step-4", "step-7", "step-8", "step-9"]
    before = (tmp_path / "step-9" / "model.pt").stat().st_ino
    assert training.save(tmp_path, 9, keep=1, permanent=True), "the same step again is there already"
    assert (tmp_path / "step-9" / "model.pt").stat().st_ino == before
    training.save(tmp_path, 10, keep=1)
    assert names(tmp_path) == ["step-10", "step-4", "step-8", "step-9"]


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


DAMAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a bit": (lambda folder: flip(folder / "model.pt"), "model.pt differs from what was saved"),
    "an end": (lambda folder: os.truncate(folder / "optimizer.pt", 100), "optimizer.pt has 100 bytes instead of"),
    "a file": (lambda folder: (folder / "random-0.pt").unlink(), "random-0.pt is missing"),
    "the marker": (lambda folder: (folder / "complete.json").unlink(), "it has no complete.json"),
    "half the marker": (lambda folder: os.truncate(folder / "complete.json", 50), "complete.json cannot be read"),
    "another marker": (lambda folder: (folder / "complete.json").write_text("[]"), "complete.json cannot be read"),
    "its name": (lambda folder: folder.rename(f"{folder}.partial"), "is not complete: the run ended while"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_one_is_named_and_removed_and_the_one_before_it_taken(
    training: Training, tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    training.save(tmp_path, 1, keep=3)
    training.save(tmp_path, 2, keep=3)
    expected = training.step()
    training.save(tmp_path, 12, keep=3)
    spoil, message = DAMAGES[damage]
    spoil(tmp_path / "step-12")
    if damage != "a bit":  # which only the hash shows
        assert checkpoint.latest(tmp_path) == tmp_path / "step-2"
    with caplog.at_level(logging.WARNING):
        assert checkpoint.resume(training.accelerator, tmp_path).step == 2
    assert message in caplog.text and "step-12" in caplog.text and "removed" in caplog.text
    assert names(tmp_path) == ["step-1", "step-2"]
    assert training.step() == expected


def test_what_an_interrupted_deletion_left_goes_without_a_word(
    training: Training, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    training.save(tmp_path, 2)
    shutil.copytree(tmp_path / "step-2", tmp_path / "step-1.old")
    (tmp_path / "notes").mkdir()
    assert checkpoint.resume(training.accelerator, tmp_path).step == 2
    assert names(tmp_path) == ["notes", "step-2"] and not caplog.text


def test_looking_for_the_latest_while_another_process_saves(training: Training, tmp_path: Path) -> None:
    """It may vanish between two looks: there is always one, and no error."""
    training.save(tmp_path, 1)
    child = os.fork()
    if child == 0:
        try:
            for step in range(2, 60):
                training.save(tmp_path, step)
        finally:
            os._exit(0)
    found = []
    while os.waitpid(child, os.WNOHANG)[0] == 0:
        found.append(checkpoint.latest(tmp_path))
    assert None not in found and len(set(found)) > 1


@pytest.mark.parametrize("failing", ["torch.save", "clp_transfer.files.os.fsync"])
def test_a_full_disk_leaves_the_last_checkpoint_and_training_goes_on(
    training: Training, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    training.save(tmp_path, 1)
    with monkeypatch.context() as patch:

        def refuse(*_: Any, **__: Any) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        patch.setattr(failing, refuse)
        for step in (2, 3):
            assert training.save(tmp_path, step) is False
    assert "step-3 could not be saved ([Errno 28] No space left on device)" in caplog.text
    assert f"the last checkpoint is {tmp_path / 'step-1'}" in caplog.text
    assert names(tmp_path) == ["step-1"]
    assert training.save(tmp_path, 4) and names(tmp_path) == ["step-4"]


def test_metrics_that_cannot_be_written_leave_the_last_checkpoint(training: Training, tmp_path: Path) -> None:
    def refuse() -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    progress = Progress(1)
    assert checkpoint.save(training.accelerator, tmp_path, progress, lambda: 7)
    assert checkpoint.save(training.accelerator, tmp_path, replace(progress, step=2), refuse) is False
    assert names(tmp_path) == ["step-1"]
    assert checkpoint.resume(training.accelerator, tmp_path).metrics_bytes == 7


def test_a_rank_that_does_not_see_the_checkpoint_is_told_why(
    training: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its answer is that the marker, which lists all files but itself, is not there."""
    training.save(tmp_path, 1)
    empty = checkpoint._mismatches(tmp_path / "elsewhere", list)
    monkeypatch.setattr(checkpoint, "gather", lambda mine: [mine, empty])
    with pytest.raises(UserError, match=r"rank 1 cannot read .* as rank 0 does"):
        checkpoint.resume(training.accelerator, tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_full_disk_for_real(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """torch writes with C++ and does not raise OSError."""
    training = Training(width=128)
    training.step()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", tmp_path], capture_output=True).returncode:
        pytest.skip("tmpfs cannot be mounted here")
    try:
        assert training.save(tmp_path, 1)
        expected = training.step()
        assert training.save(tmp_path, 2) is False
        assert names(tmp_path) == ["step-1"] and checkpoint.latest(tmp_path) == tmp_path / "step-1"
        checkpoint.resume(training.accelerator, tmp_path)
        assert training.step() == expected
    finally:
        subprocess.run(["umount", "--lazy", tmp_path], check=True)
    assert "training goes on" in caplog.text


def test_a_mistake_of_ours_is_not_taken_for_a_full_disk(
    training: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training.model, "state_dict", lambda: {"unsaveable": lambda: None})
    with pytest.raises(AttributeError):
        training.save(tmp_path, 1)
    assert checkpoint.latest(tmp_path) is None


def curve(folder: Path) -> list[tuple[str, int, float]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [(r["kind"], r["step"], r.get("loss", r.get("nats_per_token"))) for r in lines]


def often(job: Any, out: Path, **changes: Any) -> Any:
    """The job with a checkpoint after every step and a record of each."""
    from dataclasses import replace

    settings = TrainConfig(precision="fp32", threads=1, checkpoint_minutes=1e-9, log_seconds=0)
    return replace(job, out=out, train=settings, **changes)


@pytest.mark.slow
def test_killed_ten_times_it_ends_bit_identical_to_the_uninterrupted_run(make_job: Any, tmp_path: Path) -> None:
    """Real SIGKILLs of real processes, half at random moments and half while a checkpoint is being written."""
    fields: dict[str, Any] = {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 64}  # dropout 0.1 as GPT-2 has
    changes = {"model": None, "architecture": ArchitectureConfig("gpt2", fields)}
    changes["budget"] = BudgetConfig(tokens=STEPS * 128, batch_tokens=128, sequence_length=32, micro_batch=2)
    whole = often(make_job(), tmp_path / "runs" / "whole", **changes)
    job = often(make_job(), tmp_path / "runs" / "killed", **changes)
    uninterrupted = start(train_job, whole)
    uninterrupted.join(120)
    assert uninterrupted.exitcode == 0
    folder = job.plan().working / "checkpoints"
    draw, saving = random.Random(1), 0
    for kill in range(KILLS):
        before = checkpoint.latest(folder)
        process = start(train_job, job)
        while checkpoint.latest(folder) == before and process.is_alive():
            time.sleep(0.01)
        if kill % 2:
            while not any(folder.glob("*.partial")) and process.is_alive():
                time.sleep(0.001)
        else:
            time.sleep(draw.uniform(0, 0.05))
        process.kill()
        process.join()
        assert process.exitcode == -9, "the run ended before it was killed ten times"
        saving += any(folder.glob("*.partial"))
    assert saving >= 1
    last = start(train_job, job)
    last.join(120)
    assert last.exitcode == 0
    assert curve(job.out) == curve(whole.out) and len(curve(job.out)) == STEPS + 4
    one, two = ((run.out / "model" / "model.safetensors").read_bytes() for run in (job, whole))
    assert one == two


@pytest.mark.slow
def test_an_error_on_one_rank_reaches_all(tmp_path: Path) -> None:
    assert run_ranks(2, fail_together, tmp_path) == [0, 0]
    first, second = ((tmp_path / f"{rank}.txt").read_text().split("\n---\n") for rank in range(2))
    assert first == [
        "WriteFailed: rank 1: [Errno 28] No space left on device",
        "UserError: wrong\n  What to do: mend it",
        "RankFailed: rank 1: a bug",
        *("0", "[0, 10]", "from 0"),
    ]
    assert second == [first[0], first[1], "ValueError: a bug", "1", *first[4:]]


@pytest.mark.slow
@pytest.mark.parametrize("stage", [None, 2])
def test_a_disk_that_is_full_for_one_rank_stops_none(make_job: Any, tmp_path: Path, stage: int | None) -> None:
    from clp_transfer.train.job import DeepSpeedConfig

    job = often(make_job(), tmp_path / "runs" / "full", deepspeed=DeepSpeedConfig(stage, bucket_size=1_000_000))
    assert run_ranks(2, train_with_a_full_disk, job, 1, 3) == [0, 0]
    assert curve(job.out)[-1][:2] == ("validation", 12)
