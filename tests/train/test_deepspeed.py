"""Every file of configs/deepspeed trains like one process: two CPU ranks, same curve, same weights.

`pytest -s -k like_one_process` prints the table: stage, ranks, largest difference of the loss, bytes on each rank.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tiny import ranks
from transformers import AutoModelForCausalLM

from clp_transfer.train.job import DeepSpeedConfig, TrainConfig
from clp_transfer.train.run import train

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = {
    path.stem: DeepSpeedConfig(**yaml.safe_load(path.read_text()))
    for path in sorted((ROOT / "configs" / "deepspeed").glob("*.yaml"))
}
STEPS = 6
SHARDED, PARTITIONED = {"zero1", "zero2", "zero3", "zero3_offload"}, {"zero3", "zero3_offload"}


def curve(folder: Path) -> list[float]:
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [r["nats_per_token"] for r in lines if r["kind"] == "validation"]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return AutoModelForCausalLM.from_pretrained(folder / "model").state_dict()


@pytest.mark.slow
def test_every_stage_trains_like_one_process(make_job, tmp_path) -> None:
    """Loss curve, shards of the optimizer and of the parameters, saved model, and who wrote which file."""
    alone = make_job(out=tmp_path / "runs" / "alone")
    budget = replace(alone.budget, tokens=STEPS * alone.budget.batch_tokens, micro_batch=1)
    alone = replace(alone, budget=budget, optim=replace(alone.optim, lr=1e-2))
    parameters = train(alone)["parameters"]
    saving = TrainConfig(precision="fp32", threads=1, checkpoint_minutes=1e-9, log_seconds=0)
    expected, model = curve(alone.out), weights(alone.out)
    print(f"\n{'':14} ranks  loss differs by  bytes of parameters  of optimizer")
    for name, settings in SETTINGS.items():
        job = replace(alone, out=tmp_path / "runs" / name, deepspeed=settings, train=saving)
        found = ranks.on_two_ranks(ranks.train, job, tmp_path / "ranks" / name)
        held = [each["held"] for each in found]
        got = curve(job.out)
        difference = max(abs(a - b) / b for a, b in zip(got, expected, strict=True))
        print(f"{name:14} {len(held)}  {difference:16.1e}  {held[0]['parameters']:20,}  {held[0]['optimizer']:12,}")
        assert got == pytest.approx(expected, rel=1e-6), name
        saved = weights(job.out)
        assert saved.keys() == model.keys(), name
        assert all(torch.allclose(saved[key], model[key], atol=2e-4) for key in model), name
        # Adam's two moments in float32, and ZeRO's own copy of the weights; shared by the ranks, but for padding.
        share = 3 / 2 if name in SHARDED else 2
        assert [h["optimizer"] for h in held] == pytest.approx([share * 4 * parameters] * 2, rel=0.02), name
        largest = 0.6 if name in PARTITIONED else 1
        assert all(0.5 <= h["parameters"] / (4 * parameters) <= largest for h in held), name
        check_files(name, found[0]["written"])
    for name in ("zero0", "zero2"):
        half = replace(alone.train, precision="bf16")
        job = replace(alone, out=tmp_path / "runs" / f"{name}-bf16", deepspeed=SETTINGS[name], train=half)
        ranks.on_two_ranks(ranks.train, job, tmp_path / "ranks" / f"{name}-bf16")
        assert curve(job.out) == pytest.approx(expected, rel=1e-3), f"{name} in bf16"


def check_files(name: str, written: dict[str, Any]) -> None:
    """Of the result rank 0 wrote everything; of a checkpoint the others wrote shards that rank 0 has as well."""
    result = written.pop(f"{name}.partial")
    assert "model/config.json" in result["rank 0"] and result["others"] == [], name
    checkpoints = {folder: files for folder, files in written.items() if folder.endswith(".partial")}
    assert len(checkpoints) == STEPS - 1, (name, list(written))  # one after every step but the last
    for folder, files in checkpoints.items():
        assert files["others"], (name, folder)
        counterparts = [re.sub(r"(?<!\d)1(?!\d)", "0", file, count=1) for file in files["others"]]
        assert set(counterparts) <= set(files["rank 0"]), (name, folder, files["others"])


@pytest.mark.slow
def test_a_phase_may_have_another_batch_size(make_job, tmp_path) -> None:
    """Four steps of gradient descent, the last two of three times as many rows, against the formula."""
    model = ranks.start()
    for step in range(len(ranks.PORTIONS)):
        model.zero_grad()
        model(ranks.batch(step)).square().mean().backward()
        model.weight.data -= 0.5 * model.weight.grad
    job = make_job()
    job = replace(job, optim=replace(job.optim, clip_norm=1e9))
    for name in ("none", "zero0", "zero2"):
        found = ranks.on_two_ranks(ranks.accumulate, replace(job, deepspeed=SETTINGS[name]), tmp_path / name)
        assert found[0] == found[1] == pytest.approx(model.weight.flatten().tolist(), abs=1e-6), name


@pytest.mark.slow
def test_ranks_with_other_settings_are_told(make_job, tmp_path) -> None:
    told = ranks.on_two_ranks(ranks.train_with_own_seed, make_job(), tmp_path / "ranks")
    assert told == ["rank 1 differs from rank 0 in seed: 1 and 0"] * 2


def test_a_port_that_is_taken_is_named(make_job, world, tmp_path) -> None:
    """Rank 0 of two must listen on the port; the message says which one and what to do."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        place = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        data = tmp_path / "outputs" / "taken" / "data"
        data.mkdir(parents=True)
        for name in ("packs", "tokenizers"):
            (data / name).symlink_to(world.root / name)
        command = [sys.executable, str(ROOT / "train.py"), "experiment=mini", "name=taken", f"model={world.helper}"]
        command += [f"paths.outputs={tmp_path}/outputs", "optim.lr=1e-3", "budget.sequence_length=32"]
        done = subprocess.run(command, env=os.environ | place, capture_output=True, text=True)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert f"cannot meet at 127.0.0.1:{port}" in done.stderr
