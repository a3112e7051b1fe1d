"""DeepSpeed is real: train.py under torchrun on two CPU ranks, ZeRO 2, optimizer state split between them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

ROOT = Path(__file__).resolve().parents[2]
TRAIN = str(ROOT / "train.py")


def settings(world, folder: Path) -> list[str]:
    """The tiny world's packs laid out as prepare.py leaves them; a run of 12 steps in float32."""
    data = folder / "outputs" / "zero" / "data"
    data.mkdir(parents=True)
    (data / "packs").symlink_to(world.root / "packs")
    (data / "tokenizers").symlink_to(world.root / "tokenizers")
    return [
        *("experiment=mini", "name=zero", f"paths.outputs={folder}/outputs", f"model={world.helper}"),
        *("budget.tokens=1536", "budget.batch_tokens=128", "budget.sequence_length=32", "optim.lr=1e-3"),
        *("validation.points=3", "validation.max_bytes=1000", "train.precision=fp32", "wandb.mode=disabled"),
    ]


def run(command: list[str]) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def curve(run_folder: Path) -> list[float]:
    lines = map(json.loads, (run_folder / "metrics.jsonl").read_text().splitlines())
    return [r["nats_per_token"] for r in lines if r["kind"] == "validation"]


@pytest.mark.slow
def test_zero2_under_torchrun_shards_the_optimizer_and_keeps_the_curve(world, tmp_path) -> None:
    overrides = settings(world, tmp_path)
    runs = tmp_path / "outputs" / "zero" / "runs"
    run([sys.executable, TRAIN, *overrides])
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone"]
    run([*launcher, TRAIN, *overrides, "deepspeed=zero2", "variant=zero2"])
    alone = json.loads((runs / "clp-seed1" / "summary.json").read_text())
    sharded = json.loads((runs / "clp-seed1,zero2" / "summary.json").read_text())
    assert (sharded["world_size"], sharded["zero_stage"]) == (2, 2)
    # Adam keeps two moments a parameter; alone they are all here, sharded each rank has half, but for padding.
    assert alone["optimizer_state_per_rank"] == [2 * alone["parameters"]]
    assert sharded["optimizer_state_per_rank"] == pytest.approx([alone["parameters"]] * 2, rel=0.02)
    assert curve(runs / "clp-seed1,zero2") == pytest.approx(curve(runs / "clp-seed1"), rel=2e-4)
    model = AutoModelForCausalLM.from_pretrained(runs / "clp-seed1,zero2" / "model")
    assert sum(p.numel() for p in model.parameters()) == alone["parameters"]


@pytest.mark.slow
def test_a_port_that_is_taken_is_named(world, tmp_path) -> None:
    """Rank 0 of two must listen on the port; the message says which one and what to do."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        ranks = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        command = [sys.executable, TRAIN, *settings(world, tmp_path)]
        done = subprocess.run(command, env=os.environ | ranks, capture_output=True, text=True)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert f"cannot meet at 127.0.0.1:{port}" in done.stderr
