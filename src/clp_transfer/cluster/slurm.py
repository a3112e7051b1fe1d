"""SLURM's own commands, as few as are needed: sbatch, squeue, sacct, scancel."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from clp_transfer.errors import UserError


@dataclass(frozen=True)
class Queued:
    """A job in the queue: its state (`RUNNING`, `PENDING`), and why it waits or where it runs."""

    state: str
    reason: str


def require() -> None:
    """Raise UserError where this machine has no SLURM."""
    if shutil.which("sbatch") is None:
        raise UserError(
            "this machine has no SLURM (`sbatch`)", "run it on a login node; dry_run=true shows the scripts"
        )


def submit(script: Path, after: Sequence[str]) -> str:
    """Submit a script that waits until the jobs `after` have ended well; returns its id. UserError if refused."""
    dependency = [f"--dependency=afterok:{':'.join(after)}"] if after else []
    done = _call(["sbatch", "--parsable", *dependency, str(script)])
    if done.returncode:
        raise UserError(
            f"sbatch refused {script.name}: {done.stderr.strip()}",
            "check cluster.partition, cluster.account, cluster.time and what a step asks for (configs/cluster)",
        )
    return done.stdout.strip().partition(";")[0]


def queue(jobs: Sequence[str]) -> dict[str, Queued]:
    """Those of the jobs that SLURM still runs or will run. Raises UserError where it does not answer."""
    if not jobs:
        return {}
    done = _call(["squeue", "--noheader", "--format=%i|%T|%R", f"--jobs={','.join(jobs)}"])
    if done.returncode and "invalid job id" not in done.stderr.lower():
        raise UserError(f"squeue does not answer: {done.stderr.strip()}", "try again when SLURM is well")
    if done.returncode and len(jobs) > 1:  # some versions refuse the list for one job that they have forgotten
        return {job: found for one in jobs for job, found in queue([one]).items()}
    rows = [line.split("|", 2) for line in done.stdout.splitlines() if line.count("|") >= 2]
    ended = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "OUT_OF_MEMORY", "NODE_FAIL", "BOOT_FAIL", "DEADLINE")
    return {job: Queued(state, reason) for job, state, reason in rows if state not in ended}


def history(jobs: Sequence[str]) -> dict[str, str]:
    """How jobs ended, by the accounting; empty where the cluster keeps none."""
    if not jobs or shutil.which("sacct") is None:
        return {}
    done = _call(["sacct", "-n", "-X", "-P", "--format=JobID,State", f"--jobs={','.join(jobs)}"])
    rows = [line.split("|") for line in done.stdout.splitlines()] if done.returncode == 0 else []
    return {row[0]: row[1].split()[0] for row in rows if len(row) == 2 and row[1]}


def cancel(jobs: Sequence[str]) -> None:
    """Cancel jobs. Raises UserError where SLURM refuses."""
    done = _call(["scancel", *jobs])
    if done.returncode:
        raise UserError(f"scancel refused: {done.stderr.strip()}", "try again when SLURM is well")


def _call(command: list[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise UserError(f"this machine has no SLURM (`{command[0]}`)", "run it on a login node") from error
