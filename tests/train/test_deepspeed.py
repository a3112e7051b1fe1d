"""DeepSpeed is real: two CPU ranks under torchrun, ZeRO 2, optimizer state split between them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

from clp_transfer.train.run import train

WORKER = """
import json, os, sys, pickle
from pathlib import Path
from clp_transfer.train import loop, run
job = pickle.loads(Path(sys.argv[1]).read_bytes())
seen = {}
original = loop.Loop.run
def spy(self):
    result = original(self)
    inner = self.optimizer.optimizer
    seen["engine"] = type(self.wrapped).__name__
    seen["optimizer"] = type(inner).__name__
    base = getattr(inner, "optimizer", inner)
    values = [v for s in base.state.values() for v in s.values() if hasattr(v, "numel")]
    seen["state"] = sum(v.numel() for v in values if v.numel() > 1)
    seen["parameters"] = sum(p.numel() for p in self.module.parameters())
    return result
loop.Loop.run = spy
run.train(job)
Path(sys.argv[1] + os.environ.get("RANK", "0")).write_text(json.dumps(seen))
"""


def launch(job, folder: Path, ranks: int) -> list[dict]:
    import pickle

    (folder / "worker.py").write_text(WORKER)
    (folder / "job").write_bytes(pickle.dumps(job))
    command = [sys.executable, "-m", "torch.distributed.run", f"--nproc_per_node={ranks}", "--master_port=29611"]
    environment = os.environ | {"DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, str(folder / "worker.py"), str(folder / "job")], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return [json.loads((folder / f"job{rank}").read_text()) for rank in range(ranks)]


def curve(folder: Path) -> list[float]:
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [r["nats_per_token"] for r in lines if r["kind"] == "validation"]


@pytest.mark.slow
def test_zero2_shards_the_optimizer_and_keeps_the_curve(make_job, tmp_path) -> None:
    from clp_transfer.train.job import DeepSpeedConfig

    alone = make_job(out=tmp_path / "runs" / "alone")
    train(alone)
    job = make_job(deepspeed=DeepSpeedConfig(stage=2))
    ranks = launch(job, tmp_path, 2)
    for one in ranks:
        assert one["engine"] == "DeepSpeedEngine" and "Zero" in one["optimizer"]
        # Adam keeps two moments a parameter; each rank holds half of them, but for padding.
        assert one["state"] == pytest.approx(2 * one["parameters"] / 2, rel=0.05)
    assert curve(job.out) == pytest.approx(curve(alone.out), rel=2e-4)
    model = AutoModelForCausalLM.from_pretrained(job.out / "model")
    assert sum(p.numel() for p in model.parameters()) == ranks[0]["parameters"]
