"""`hydra/launcher=submitit_slurm`: every member of a sweep is a SLURM job on one node, with the settings of `cluster`.

`submitit_local` does the same with processes on this machine. The launchers are hydra-submitit-launcher's; here their
options are taken from `cluster`. (A file in configs/ of the same name would be held against the package's own schema,
which does not know `cluster`.)
"""

from __future__ import annotations

from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from clp_transfer.cluster.limits import seconds

BOTH: dict[str, Any] = {
    "submitit_folder": "${hydra.sweep.dir}/sweeps/jobs/%j",
    "name": "${name}-sweep",
    "timeout_min": "${clp.minutes:${cluster.time}}",
    "nodes": 1,
    "tasks_per_node": 1,  # it starts the ranks
    "stderr_to_stdout": True,
}
SLURM: dict[str, Any] = {
    "partition": "${cluster.partition}",
    "account": "${cluster.account}",
    "qos": None,
    "constraint": None,
    "cpus_per_task": "${cluster.cpus_per_node}",
    "gpus_per_node": "${clp.none_for_0:${cluster.gpus_per_node}}",
    "mem_per_cpu": "${cluster.memory_gb_per_cpu}G",
    "signal_delay_s": "${cluster.signal_seconds}",
    "max_num_timeout": "${cluster.most_restarts}",
    "array_parallelism": 256,
    "setup": "${clp.shell_lines:${cluster.modules},${cluster.setup}}",
    "additional_parameters": {},
}


def register_launchers() -> None:
    """Put ours in place of the package's entries, where it is installed."""
    for name, function in (("minutes", _minutes), ("none_for_0", _none_for_0), ("shell_lines", _shell_lines)):
        OmegaConf.register_new_resolver(f"clp.{name}", function, replace=True)
    try:
        import hydra_plugins.hydra_submitit_launcher.config  # stores its own, which ours replace  # noqa: F401
    except ImportError:
        return
    target = "hydra_plugins.hydra_submitit_launcher.submitit_launcher"
    store = ConfigStore.instance()
    slurm, local = {"_target_": f"{target}.SlurmLauncher", **BOTH, **SLURM}, {"_target_": f"{target}.LocalLauncher"}
    store.store(group="hydra/launcher", name="submitit_slurm", node=slurm)
    store.store(group="hydra/launcher", name="submitit_local", node=local | BOTH)


def _minutes(time: str) -> int:
    """SLURM's time limit in minutes, 30 days for none."""
    return int(min(seconds(time), 30 * 86400) // 60)


def _none_for_0(number: int) -> int | None:
    return number or None


def _shell_lines(modules: list[str], setup: str) -> list[str]:
    # srun takes --cpus-per-task from sbatch no more.
    first = 'export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK"'
    return [first, *(f"module load {module}" for module in modules), *setup.splitlines()]
