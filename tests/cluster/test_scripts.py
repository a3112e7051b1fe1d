"""The batch scripts as they are printed, against scripts written by hand, and their shell on stand-ins for SLURM."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from clp_transfer.cluster.limits import check, seconds
from clp_transfer.cluster.script import Place, Share, script, share, slug
from clp_transfer.errors import UserError
from clp_transfer.pipeline.steps import Step
from clp_transfer.prepare.job import ClusterConfig

GOLDEN = Path(__file__).parent / "golden"
PLACE = Place(
    "mini",
    Path("/data/out/mini/submissions/1"),
    Path("/home/me/clp"),
    ("/home/me/clp", "/data/out"),
    Path("/env/bin"),
    "abc",
)
ONE_NODE = ClusterConfig(name="slurm", tasks_per_node=2)
MANY_GPUS = ClusterConfig(
    name="slurm",
    nodes=4,
    gpus_per_node=8,
    cpus_per_node=64,
    partition="gpu",
    cpu_partition="cpu",
    account="p123",
    time="1-00:00:00",
    memory_gb_per_cpu=8,
    modules=["Apptainer/1.3", "CUDA"],
    container="clp transfer.sif",
    binds=["/scratch"],
    options=["--qos=long"],
    most_restarts=5,
)
TRAIN = Step("train ridge 1", "train", ["method=ridge"], ["init ridge 1"])
CASES = {
    "cpu-train": (TRAIN, ONE_NODE),
    "cpu-prepare": (Step("data", "prepare", []), ONE_NODE),
    "gpus-train": (TRAIN, MANY_GPUS),
    "gpus-evaluate": (Step("evaluate ridge 1", "evaluate", []), MANY_GPUS),
    "gpus-report": (Step("report", "report", []), MANY_GPUS),
}


@pytest.mark.parametrize("name", CASES)
def test_the_script_is_the_one_written_by_hand(name: str) -> None:
    step, cluster = CASES[name]
    text = script(step, cluster, PLACE)
    assert text == (GOLDEN / f"{name}.sh").read_text()
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)


def test_what_a_step_gets() -> None:
    assert share("train", MANY_GPUS) == Share(4, 64, 8, 8, "gpu")
    assert share("clp", MANY_GPUS) == Share(1, 64, 1, 1, "gpu")
    assert share("evaluate", MANY_GPUS) == Share(1, 8, 1, 1, "gpu")
    assert share("prepare", MANY_GPUS) == Share(1, 64, 0, 1, "cpu")
    assert share("train", ONE_NODE) == Share(1, 2, 0, 2, None)


# What the script finds in place of SLURM and Python: they note their arguments; Python ends with the status asked for.
STAND_INS = {
    "srun": 'while [[ "$1" == --* ]]; do shift; done\nexec "$@"',
    "python": 'echo "$PYTHONPATH $*" >>"$NOTES"\nexit "$STATUS"',
    "scontrol": '[ "$1" = show ] && echo node1 || echo "scontrol $*" >>"$NOTES"',
}


@pytest.mark.parametrize(
    ("step", "status", "restarts", "requeued", "noted"),
    [
        (TRAIN, 0, 0, False, "0"),
        (TRAIN, 75, 0, True, None),
        (TRAIN, 75, 49, True, None),
        (TRAIN, 75, 50, False, "75"),
        (TRAIN, 1, 0, False, "1"),
        (TRAIN, 137, 0, False, "137"),
        (CASES["cpu-prepare"][0], 75, 0, False, "75"),
    ],
)
def test_only_a_training_that_saved_goes_back_into_the_queue(
    step: Step, status: int, restarts: int, requeued: bool, noted: str | None, tmp_path: Path
) -> None:
    folder = tmp_path / "a submission"
    (folder / "ended").mkdir(parents=True)
    (folder / "ended" / slug(step)).write_text("what an earlier start noted")
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, body in STAND_INS.items():
        (tools / name).write_text(f"#!/bin/bash\n{body}\n")
        (tools / name).chmod(0o755)
    text = script(step, ONE_NODE, Place("mini", folder, tmp_path, (), tools, "abc"))
    notes = tmp_path / "notes"
    values = {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "node1", "SLURM_RESTART_COUNT": str(restarts)}
    environment = os.environ | values | {"NOTES": str(notes), "STATUS": str(status)}
    done = subprocess.run(["bash"], input=text, text=True, env=environment, capture_output=True)
    assert done.returncode == status, done.stderr
    lines = notes.read_text().splitlines()
    assert ("scontrol requeue 7" in lines) == requeued
    expected = f"{folder}/code/{step.stage}.py --config-dir {folder}/config --config-name job-{slug(step)}"
    assert lines[0].endswith(expected) and lines[0].startswith(f"{folder}/code/src ")
    assert ("--rdzv_endpoint node1:20007" in lines[0]) == (step is TRAIN)
    ended = folder / "ended" / slug(step)
    assert (ended.read_text().strip() if ended.exists() else None) == noted


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        ("90", 5400),
        ("2:30", 150),
        ("04:00:00", 14400),
        ("1-0", 86400),
        ("2-12:30", 217800),
        ("UNLIMITED", float("inf")),
    ],
)
def test_time_limits_as_slurm_writes_them(time: str, expected: float) -> None:
    """The examples are those of sbatch's manual."""
    assert seconds(time) == expected


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"name": "local"}, "cluster=local has no queue"),
        ({"nodes": 0}, "cluster.nodes=0"),
        ({"gpus_per_node": -1}, "cluster.gpus_per_node=-1"),
        ({"time": "soon"}, "'soon' is no time limit"),
        ({"time": "5"}, "leaves no time"),
        ({"options": ["qos=long"]}, "cluster.options has 'qos=long'"),
    ],
)
def test_settings_that_no_job_could_run_with(changes: dict, told: str) -> None:
    with pytest.raises(UserError, match=told):
        check(ClusterConfig(**{"name": "slurm", **changes}))


RANK = """
import os, signal, sys, time
rank = int(os.environ["RANK"])
if sys.argv[1] == "listen":
    asked = []
    signal.signal(signal.SIGUSR1, lambda *_: asked.append(1))
    with open(f"{sys.argv[2]}/{rank}.new", "w") as file:
        file.write(str(os.getpid()))
    os.rename(f"{sys.argv[2]}/{rank}.new", f"{sys.argv[2]}/{rank}")
    while not asked:
        time.sleep(0.01)
    sys.exit(75)
sys.exit(int(sys.argv[1].split(",")[rank]))
"""


def ranks(tmp_path: Path, *arguments: str, nodes: Sequence[str] = ("--standalone",)) -> subprocess.Popen:
    (tmp_path / "rank.py").write_text(RANK)
    start = [sys.executable, "-m", "clp_transfer.cluster.ranks", *nodes, "--nproc_per_node", "2"]
    command = [*start, str(tmp_path / "rank.py"), *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


@pytest.mark.slow
@pytest.mark.parametrize(("codes", "expected"), [("0,0", 0), ("75,75", 75), ("3,0", 3)])
def test_the_ranks_status_is_the_commands(codes: str, expected: int, tmp_path: Path) -> None:
    process = ranks(tmp_path, codes)
    printed, _ = process.communicate(timeout=120)
    assert process.returncode == expected and "Traceback" not in printed, printed


@pytest.mark.slow
def test_sigusr1_to_every_process_reaches_the_ranks_alone(tmp_path: Path) -> None:
    """As SLURM sends it; torchrun by itself dies of it and takes the ranks along."""
    process = ranks(tmp_path, "listen", str(tmp_path))
    while not all((tmp_path / str(rank)).exists() for rank in range(2)):
        assert process.poll() is None
    found = subprocess.run(["ps", "-e", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    pairs = [tuple(map(int, line.split())) for line in found.splitlines()]
    family = {process.pid}
    for _ in range(3):
        family |= {pid for pid, parent in pairs if parent in family}
    assert len(family) >= 3
    for pid in family:
        os.kill(pid, signal.SIGUSR1)
    process.communicate(timeout=120)
    assert process.returncode == 75


@pytest.mark.slow
def test_two_nodes_agree_that_the_run_is_not_finished(tmp_path: Path) -> None:
    """Nodes end one after the other; srun then ends with the highest of their statuses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    nodes = ["--nnodes", "2", "--rdzv_backend", "c10d", "--rdzv_id", "7", "--rdzv_endpoint", f"localhost:{port}"]
    processes = [ranks(tmp_path, "listen", str(tmp_path), nodes=nodes) for _ in range(2)]
    files = [tmp_path / str(rank) for rank in range(4)]
    while not all(file.exists() for file in files):
        assert all(process.poll() is None for process in processes)
    for file in files:
        os.kill(int(file.read_text()), signal.SIGUSR1)
    printed = [process.communicate(timeout=120)[0] for process in processes]
    assert max(process.returncode for process in processes) == 75, printed
