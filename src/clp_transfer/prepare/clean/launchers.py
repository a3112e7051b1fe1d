"""datatrove's two executors as this project wants them: quiet, and sparing with SLURM jobs.

Importing this module imports datatrove (half a second); jobs on a cluster import it to unpickle their executor.
"""

from __future__ import annotations

import os
import sys
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

from datatrove.executor import LocalPipelineExecutor, SlurmPipelineExecutor
from datatrove.utils.logging import logger, setup_default_logger
from datatrove.utils.stats import PipelineStats

from clp_transfer.prepare.clean.executor import Step
from clp_transfer.prepare.job import ClusterConfig

# Most clusters allow arrays of 1,001 tasks. datatrove would start several arrays, and the next step would wait for the
# last of them only.
LARGEST_ARRAY = 1000


class Local(LocalPipelineExecutor):  # type: ignore[misc]
    """Processes on this machine. What they would print goes to `stderr` in the logs instead."""

    def _run_for_rank(self, rank: int, local_rank: int = 0, node_rank: int = -1) -> PipelineStats:
        logger.enable("datatrove")
        try:
            with Path(self.logging_dir.resolve_paths("stderr")).open("a") as sink, redirect_stderr(sink):
                return super()._run_for_rank(rank, local_rank, node_rank)
        finally:
            logger.disable("datatrove")
            setup_default_logger()  # the one that datatrove left behind writes to the closed file


class Slurm(SlurmPipelineExecutor):  # type: ignore[misc]
    """SLURM jobs, one array a step."""

    def get_sbatch_args(self, max_array: int = 1) -> dict[str, Any]:
        """The options of `sbatch`; without a partition, SLURM's default holds."""
        options: dict[str, Any] = super().get_sbatch_args(max_array)
        if self.partition is None:
            del options["partition"]
        return options

    def launch_merge_stats(self) -> None:
        """datatrove starts one more job to add up its statistics, which nobody reads here."""


def local(step: Step, cluster: ClusterConfig, logs: Path) -> Local:
    """The executor of a step on this machine."""
    logs.mkdir(parents=True, exist_ok=True)
    workers = min(cluster.workers or len(os.sched_getaffinity(0)), step.tasks)
    return Local(step.pipeline, tasks=step.tasks, workers=workers, logging_dir=str(logs))


def slurm(step: Step, cluster: ClusterConfig, logs: Path, before: Slurm | None) -> Slurm:
    """The executor of a step as SLURM jobs that wait for those of the step `before`."""
    # Where the job's shell does not set up an environment, it uses the Python that submitted it.
    setup = cluster.setup or f'export PATH="{Path(sys.executable).parent}:$PATH"'
    options = {"kill-on-invalid-dep": "yes"}  # else jobs whose predecessor failed would wait for ever
    if cluster.account:
        options["account"] = cluster.account
    return Slurm(
        step.pipeline,
        tasks=step.tasks,
        time=cluster.time,
        partition=cluster.partition,
        cpus_per_task=step.cpus,
        mem_per_cpu_gb=cluster.memory_gb_per_cpu,
        workers=cluster.workers or -1,
        job_name=f"clp-clean-{step.name}",
        qos=None,
        env_command=setup,
        sbatch_args=options,
        max_array_size=LARGEST_ARRAY + 1,
        tasks_per_job=-(-step.tasks // LARGEST_ARRAY),
        depends=before,
        logging_dir=str(logs),
        mail_type="NONE",
    )
