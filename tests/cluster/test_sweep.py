"""A sweep whose members are jobs: one fails, the others finish, and again only what is missing runs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from clp_transfer.cli.sweep_table import Row, table

ROOT = Path(__file__).resolve().parents[2]


def sweep(world, folder: Path, launcher: str, lengths: str) -> subprocess.CompletedProcess:
    """Members with sequences of these lengths; the tiny model has 64 positions."""
    data = folder / "outputs" / "swept" / "data"
    data.mkdir(parents=True, exist_ok=True)
    for name in ("packs", "tokenizers"):
        if not (data / name).exists():
            (data / name).symlink_to(world.root / name)
    command = [
        *(sys.executable, str(ROOT / "train.py"), "-m", "experiment=mini", "name=swept"),
        *(f"paths.outputs={folder}/outputs", f"model={world.helper}", f"hydra/launcher={launcher}"),
        *("budget.tokens=512", "budget.batch_tokens=128", "optim.lr=1e-3", f"budget.sequence_length={lengths}"),
        *("validation.points=2", "validation.max_bytes=1000", "train.precision=fp32"),
    ]
    if launcher == "submitit_slurm":
        command += ["cluster=slurm", "cluster.tasks_per_node=2", "cluster.memory_gb_per_cpu=1"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, cwd=folder, timeout=300)


def lines(printed: str) -> dict[str, str]:
    """The rows of the table: member to state."""
    return dict(re.findall(r"^budget.sequence_length=(\d+) +\d+ s  (.*)$", printed, re.MULTILINE))


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["submitit_local", "submitit_slurm"])
def test_a_member_that_fails_is_a_row_and_the_others_finish(
    launcher: str, world, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    if launcher == "submitit_slurm":
        request.getfixturevalue("slurm")
    done = sweep(world, tmp_path, launcher, "128,16,32")
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stdout[-2000:] + done.stderr[-2000:]
    assert lines(done.stdout) == {"128": "status 2", "16": "complete", "32": "complete"}, done.stdout
    runs = tmp_path / "outputs" / "swept" / "runs"
    finished = {path.parent: path.stat().st_mtime_ns for path in runs.glob("*/manifest.json")}
    found = {
        json.loads((run / "manifest.json").read_text())["settings"]["budget"]["sequence_length"] for run in finished
    }
    assert found == {16, 32}
    again = sweep(world, tmp_path, launcher, "16,32,64")
    assert again.returncode == 0, again.stdout[-2000:] + again.stderr[-2000:]
    assert lines(again.stdout) == {"16": "complete", "32": "complete", "64": "complete"}
    assert {run: (run / "manifest.json").stat().st_mtime_ns for run in finished} == finished
    assert len(list(runs.glob("*/manifest.json"))) == 3
    ranks = {json.loads(path.read_text())["world_size"] for path in runs.glob("*/summary.json")}
    assert ranks == {2 if launcher == "submitit_slurm" else 1}


def test_the_table_leaves_out_what_all_members_have() -> None:
    rows = [Row("a=1 lr=1", "train", 0, 5.2), Row("a=1 lr=2", "train", -9, 61.0), Row("a=1 lr=3", "train")]
    one, two, three = table(rows).splitlines()
    assert one == "lr=1       5 s  complete"
    assert two.startswith("lr=2      61 s  killed, perhaps out of memory") and "killed, or out of memory" in three
