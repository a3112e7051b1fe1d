"""A SLURM of one node on this machine: munged, slurmctld and slurmd in a temporary folder, without root's files."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

DAEMONS = ("munged", "slurmctld", "slurmd")
CORES = 4  # of the node, whatever the machine has: two jobs of two ranks run at a time

CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=1,bf_interval=1
SlurmdParameters=config_overrides
MpiDefault=none
JobRequeue=1
ReturnToService=2
MinJobAge=300
KillWait=5
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} RealMemory=64000 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str:
    """Why there can be no SLURM here; empty where there can."""
    lost = [name for name in DAEMONS if _daemon(name) is None]
    if lost:
        return f"not installed: {', '.join(lost)} (make test-slurm installs Debian's slurm-wlm)"
    return "" if os.environ.get("CLP_TEST_SLURM") else "CLP_TEST_SLURM is not set (make test-slurm sets it)"


def _daemon(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")


def _ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def _start(folder: Path) -> list[subprocess.Popen]:
    for name in ("munge", "state", "spool"):
        (folder / name).mkdir(mode=0o755)
    key = folder / "munge" / "key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o600)
    controller_port, node_port = _ports(2)
    host = socket.gethostname().partition(".")[0]
    values = {"host": host, "user": pwd.getpwuid(os.getuid()).pw_name, "folder": folder, "cores": CORES}
    conf = folder / "slurm.conf"
    conf.write_text(CONF.format(**values, controller_port=controller_port, node_port=node_port))
    munge = [f"--{name}-file={folder}/munge/{name}" for name in ("key", "pid", "log", "seed")]
    commands = [
        ["munged", "--foreground", "--force", f"--socket={folder}/munge/socket", *munge],
        ["slurmctld", "-D", "-f", str(conf)],
        ["slurmd", "-D", "-f", str(conf), "-N", host],
    ]
    started = []
    for name, *arguments in commands:
        printed = (folder / f"{name}.out").open("w")
        started.append(subprocess.Popen([str(_daemon(name)), *arguments], stdout=printed, stderr=printed))
        time.sleep(1)
    return started


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a running SLURM; SLURM_CONF names it to every command."""
    if reason := missing():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("slurm")
    for parent in (folder, *folder.parents):  # munged wants to be reached by its clients
        if parent.owner() == pwd.getpwuid(os.getuid()).pw_name and parent.name.startswith("pytest-"):
            parent.chmod(0o755)
    folder.chmod(0o755)
    started = _start(folder)
    os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
    try:
        deadline = time.time() + 30
        while "idle" not in (
            state := subprocess.run(["sinfo", "-h", "-o", "%T"], capture_output=True, text=True).stdout
        ):
            if time.time() > deadline:
                logs = {path.name: path.read_text()[-1500:] for path in [*folder.glob("*.log"), *folder.glob("*.out")]}
                pytest.fail(f"the node is not idle: {state!r} {logs}")
            time.sleep(0.5)
        yield folder
        subprocess.run(["scancel", "--state=RUNNING"], capture_output=True)
        subprocess.run(["scancel", "--state=PENDING"], capture_output=True)
    finally:
        os.environ.pop("SLURM_CONF")
        for process in reversed(started):
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
