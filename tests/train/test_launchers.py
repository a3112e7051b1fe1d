"""The same command under every launcher: one config, one run folder, one W&B run, the same curve."""

from __future__ import annotations

import json
import os
import shutil
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = str(ROOT / "tests" / "tiny" / "recorded.py")
BIN = Path(sys.executable).parent

# As `accelerate launch` says it for a config file with DeepSpeed in it.
SAID = {"ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "7", "ACCELERATE_USE_CPU": "true"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def launchers() -> dict[str, list[str]]:
    """How each launcher starts two ranks on CPUs.

    `accelerate launch --cpu` would start one. Its precision and what its config file may say must not count.
    """
    accelerate = [str(BIN / "accelerate"), "launch", "--multi_gpu", "--num_processes=2", "--num_machines=1"]
    return {
        "python": [sys.executable],
        "torchrun": [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"],
        "accelerate": [*accelerate, "--main_process_port=0", "--mixed_precision=fp16", "--dynamo_backend=no"],
        "deepspeed": [str(BIN / "deepspeed"), "--no_local_rank", "--num_gpus=2", f"--master_port={free_port()}"],
    }


def settings(world, folder: Path) -> list[str]:
    """The tiny world's packs laid out as prepare.py leaves them; a run of 4 steps in float32, with ZeRO 1."""
    data = folder / "outputs" / "launched" / "data"
    data.mkdir(parents=True)
    for name in ("packs", "tokenizers"):
        (data / name).symlink_to(world.root / name)
    return [
        *("experiment=mini", "name=launched", f"paths.outputs={folder}/outputs", f"model={world.helper}"),
        *("budget.tokens=512", "budget.batch_tokens=128", "budget.sequence_length=32", "optim.lr=1e-3"),
        *("validation.points=2", "validation.max_bytes=1000", "train.precision=fp32", "deepspeed=zero1"),
    ]


def curve(run: Path) -> list[float]:
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [r["nats_per_token"] for r in lines if r["kind"] == "validation"]


@pytest.mark.slow
def test_the_same_command_works_under_every_launcher(world, tmp_path) -> None:
    overrides = settings(world, tmp_path)
    root = tmp_path / "outputs" / "launched"
    curves, keys = {}, set()
    for name, launcher in launchers().items():
        records = tmp_path / name
        records.mkdir()
        tracked = name == "torchrun"
        environment = os.environ | {"OMP_NUM_THREADS": "1", "RECORDS": str(records)} | SAID
        environment["WANDB_MODE"] = "offline" if tracked else "disabled"
        command = [*launcher, SCRIPT, *overrides]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, name + done.stdout[-3000:] + done.stderr[-3000:]
        found = [json.loads(path.read_text()) for path in sorted(records.iterdir())]
        count = 1 if name == "python" else 2
        assert [each["ranks"] for each in found] == [str(count)] * count, name
        keys |= {each["key"] for each in found}
        runs = [path for path in (root / "runs").iterdir() if path.is_dir()]
        assert runs == [Path(found[0]["out"])], name
        assert len(list((root / "wandb").glob("offline-run-*"))) == tracked, name
        summary = json.loads((runs[0] / "summary.json").read_text())
        assert (summary["world_size"], summary["zero_stage"]) == (count, 1), name
        curves[name] = curve(runs[0])
        written = [path for path in (tmp_path / "outputs").rglob("*") if path.is_file() and not path.is_symlink()]
        # The others' files show by their permissions; none of them may be in what is left of a run.
        assert not [path for path in written if stat.S_IMODE(path.stat().st_mode) == 0o640], name
        shutil.rmtree(root / "runs")
        shutil.rmtree(root / "wandb", ignore_errors=True)
    assert len(keys) == 1, "every rank of every launcher has the same plan"
    assert all(got == pytest.approx(curves["python"], rel=2e-4) for got in curves.values()), curves


@pytest.mark.parametrize("argument", ["--local_rank=1", "--local-rank=1"])
def test_a_launcher_that_adds_arguments_is_told_how_not_to(argument: str, tmp_path) -> None:
    """As `deepspeed` without --no_local_rank and the old torch.distributed.launch start us."""
    place = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2"}
    command = [sys.executable, str(ROOT / "train.py"), argument, "experiment=mini", f"paths.outputs={tmp_path}"]
    done = subprocess.run(command, env=os.environ | place, capture_output=True, text=True)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "deepspeed --no_local_rank" in done.stderr and argument in done.stderr
