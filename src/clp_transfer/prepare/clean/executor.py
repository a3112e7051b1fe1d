"""Run datatrove steps here or as SLURM jobs: the same steps, the same files, the same completion markers.

datatrove marks each finished task, and never repeats one: a run that was killed goes on. SLURM jobs outlive the command
that submits them, so it stops there (`Submitted`), and the same command goes on when they are done.
"""

from __future__ import annotations

import importlib.util
import resource
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clp_transfer.errors import UserError
from clp_transfer.files import read_json, write_json
from clp_transfer.prepare.job import ClusterConfig

if TYPE_CHECKING:
    from clp_transfer.prepare.clean.launchers import Slurm


class Submitted(UserError):
    """Not a failure: jobs are on the cluster, and the same command goes on when they are done."""


@dataclass(frozen=True)
class Step:
    """A datatrove pipeline, done by `tasks` tasks, which on SLURM have `cpus` cores and their memory each."""

    name: str
    pipeline: list[Any]
    tasks: int
    cpus: int = 1


def require_datatrove() -> None:
    """Raise UserError where the optional dependency is missing."""
    if importlib.util.find_spec("datatrove") is None:
        raise UserError(
            "datatrove is not installed: clean.near and clean.filters need it", "pip install 'clp-transfer[clean]'"
        )


def run(steps: Sequence[Step], cluster: ClusterConfig, logs: Path) -> None:
    """Run steps one after the other; `logs` also remembers what is done. Returns when everything is.

    Raises Submitted while SLURM jobs are under way, and UserError where there is no SLURM or it refuses a job.
    """
    from datatrove.utils.logging import logger

    # The buckets and clusters of MinHash have a file of every chunk open at once. SLURM jobs inherit the limit.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    logger.disable("datatrove")
    try:
        if cluster.name == "slurm":
            _run_slurm(steps, cluster, logs)
        else:
            _run_local(steps, cluster, logs)
    finally:
        logger.enable("datatrove")


def _run_local(steps: Sequence[Step], cluster: ClusterConfig, logs: Path) -> None:
    from clp_transfer.prepare.clean.launchers import local

    for step in steps:
        try:
            local(step, cluster, logs / step.name).run()
        except Exception as error:
            error.add_note(f"in the cleaning step {step.name}; its logs are in {logs / step.name}")
            raise


def _run_slurm(steps: Sequence[Step], cluster: ClusterConfig, logs: Path) -> None:
    from clp_transfer.prepare.clean.launchers import slurm

    executors: list[Slurm] = []
    for step in steps:
        executors.append(slurm(step, cluster, logs / step.name, executors[-1] if executors else None))
    left = {executor.job_name: len(executor.get_incomplete_ranks()) for executor in executors}
    left = {name: count for name, count in left.items() if count}
    if not left:
        return
    if shutil.which("sbatch") is None:
        raise UserError(
            "cluster=slurm, but this machine has no `sbatch`", "run it on a login node, or with cluster=local"
        )
    record = logs / "submitted.json"
    jobs: dict[str, str] = read_json(record) if record.exists() else {}
    if waiting := _in_queue(list(jobs.values())):
        raise Submitted(
            _story("SLURM is not done yet", left, waiting), "run the same command again when the jobs are done"
        )
    try:
        executors[-1].run()
    except subprocess.CalledProcessError as error:
        raise UserError(
            f"sbatch refused a job (exit status {error.returncode}, its message is above)",
            "check cluster.partition, cluster.account, cluster.time and cluster.memory_gb_per_cpu",
        ) from error
    finally:
        submitted = {e.job_name: e.job_id for e in executors if e.job_id not in (None, -1)}
        write_json(record, submitted)
    again = f"; the jobs before left this undone, see {logs}" if jobs else ""
    raise Submitted(
        _story("jobs are on the cluster", left, list(submitted.values())) + again,
        "run the same command again when the jobs are done",
    )


def _story(what: str, left: dict[str, int], jobs: list[str]) -> str:
    tasks = ", ".join(f"{name} ({count})" for name, count in left.items())
    return f"{what}: {', '.join(jobs)}; tasks to do: {tasks}"


def _in_queue(jobs: list[str]) -> list[str]:
    """Those of the jobs that SLURM still runs or will run; it forgets finished ones, which it calls invalid."""
    waiting = []
    for job in jobs:
        asked = subprocess.run(["squeue", "--noheader", "--jobs", job], capture_output=True, text=True, check=False)
        if asked.returncode and "invalid job id" not in asked.stderr.lower():
            raise UserError(f"squeue does not answer: {asked.stderr.strip()}", "try again when SLURM is well")
        if asked.stdout.strip():
            waiting.append(job)
    return waiting
