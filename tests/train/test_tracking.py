"""W&B may fail in any way; training goes on and the metrics on disk are complete."""

from __future__ import annotations

import json
import resource
from dataclasses import replace
from typing import ClassVar

import pytest
import wandb

from clp_transfer.train.job import TrainConfig, WandbConfig
from clp_transfer.train.run import train
from clp_transfer.train.tracking import Tracker


def lines(job) -> list[dict]:
    return [json.loads(line) for line in (job.out / "metrics.jsonl").read_text().splitlines()]


def test_wandb_that_does_not_answer(make_job, monkeypatch, caplog) -> None:
    def refuse(**_: object) -> None:
        raise wandb.errors.CommError("timed out")

    monkeypatch.setattr(wandb, "init", refuse)
    job = make_job(wandb=WandbConfig(mode="online"))
    train(job)
    assert [r["step"] for r in lines(job) if r["kind"] == "validation"] == [0, 4, 8, 12]
    assert "going on without it" in caplog.text


def test_wandb_that_dies_on_the_way(make_job, monkeypatch) -> None:
    class Dying:
        calls = 0

        def define_metric(self, *_: object, **__: object) -> None: ...

        def log(self, values: dict) -> None:
            Dying.calls += 1
            if Dying.calls > 2:
                raise ConnectionError("gone")

    monkeypatch.setattr(wandb, "init", lambda **_: Dying())
    job = make_job(wandb=WandbConfig(mode="online"))
    train(job)
    assert Dying.calls == 3
    assert len([r for r in lines(job) if r["kind"] == "train"]) == 12


@pytest.mark.slow
def test_offline_wandb_writes_a_run_without_an_account(make_job, tmp_path) -> None:
    # The name of a sweep's member has characters that a W&B id must not have.
    train(make_job(wandb=WandbConfig(mode="offline"), name="test/clp-seed1,optim.lr=0.1"))
    assert list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))


def test_a_resumed_run_goes_on_in_the_same_wandb_run(make_job, monkeypatch) -> None:
    """The second leg asks W&B for the id of the first; another seed's run is another one."""
    asked = []

    class Run:
        def define_metric(self, *_: object, **__: object) -> None: ...

        def log(self, values: dict) -> None:
            if len(asked) == 1 and values["tokens"] >= 640:
                raise KeyboardInterrupt  # the first leg ends here

        summary: ClassVar[dict] = {}

        def finish(self) -> None: ...

    def init(**settings: object) -> Run:
        asked.append(settings)
        return Run()

    monkeypatch.setattr(wandb, "init", init)
    often = TrainConfig(precision="fp32", threads=1, checkpoint_minutes=1e-9, log_seconds=0)
    job = make_job(wandb=WandbConfig(mode="online"), train=often)
    with pytest.raises(KeyboardInterrupt):
        train(job)
    train(job)
    train(replace(job, seed=2, out=job.out.with_name("other")))
    assert asked[0]["id"] == asked[1]["id"] != asked[2]["id"]
    assert [one["resume"] for one in asked] == ["allow"] * 3
    assert [r["step"] for r in lines(job) if r["kind"] == "train"] == list(range(1, 13))


def test_a_full_disk_keeps_the_lines_until_there_is_room(make_job, tmp_path, caplog) -> None:
    """A file that may not grow refuses as a full disk does, in the middle of a line."""
    metrics = tmp_path / "metrics.jsonl"
    tracker = Tracker(make_job(), metrics, 0, main_process=True)
    records = [{"kind": "train", "tokens": tokens, "loss": 1 / 3} for tokens in range(6)]
    for record in records[:2]:
        tracker.log(record)
    whole = metrics.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 20, limits[1]))
    try:
        for record in records[2:5]:
            tracker.log(record)
        assert metrics.read_bytes() == whole
        with pytest.raises(OSError):
            tracker.sync()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caplog.text.count("its lines wait for room") == 1
    tracker.log(records[5])
    assert [json.loads(line) for line in metrics.read_text().splitlines()] == records
    assert tracker.sync() == metrics.stat().st_size


@pytest.mark.parametrize("lost", [0, 1, 30, 10_000])
def test_lines_that_a_crash_of_the_machine_took_do_not_spoil_those_after_them(make_job, tmp_path, caplog, lost) -> None:
    metrics = tmp_path / "metrics.jsonl"
    tracker = Tracker(make_job(), metrics, 0, main_process=True)
    records = [{"kind": "train", "tokens": tokens, "loss": 0.5} for tokens in range(6)]
    for record in records[:4]:
        tracker.log(record)
    known = tracker.sync()
    metrics.write_bytes(metrics.read_bytes()[: max(0, known - lost)])
    again = Tracker(make_job(), metrics, known, main_process=True)
    for record in records[4:]:
        again.log(record)
    found = [json.loads(line) for line in metrics.read_text().splitlines()]
    left = [record for record in records[:4] if record in found]
    assert found == left + records[4:] and left == records[: len(left)]
    assert (len(left) == 4) is (lost == 0) and ("shorter" in caplog.text) is (lost > 0)
