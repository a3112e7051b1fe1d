"""What `make submit` asks of a cluster's settings, before anything is frozen or submitted."""

from __future__ import annotations

import re

from clp_transfer.errors import UserError
from clp_transfer.prepare.job import ClusterConfig

POSITIVE = ("nodes", "tasks_per_node", "cpus_per_node", "memory_gb_per_cpu", "signal_seconds")
NOT_NEGATIVE = ("gpus_per_node", "most_restarts")
TIME = re.compile(r"(?:(?P<days>\d+)-)?(?P<clock>\d+(?::\d+){0,2})")


def check(cluster: ClusterConfig) -> None:
    """Raise UserError for the first setting with which no job could run."""
    if cluster.name != "slurm":
        raise UserError(
            f"cluster={cluster.name} has no queue to submit to",
            "make submit CLUSTER=slurm, or a file of your own in configs/cluster with name: slurm",
        )
    for keys, least in ((POSITIVE, 1), (NOT_NEGATIVE, 0)):
        for key in keys:
            if getattr(cluster, key) < least:
                raise UserError(f"cluster.{key}={getattr(cluster, key)} makes no sense", f"expected: {least} or more")
    if seconds(cluster.time) <= cluster.signal_seconds:
        raise UserError(
            f"cluster.time={cluster.time} leaves no time to train before the signal at {cluster.signal_seconds} s",
            "set a longer cluster.time or a smaller cluster.signal_seconds",
        )
    for line in cluster.options:
        if not line.startswith("-"):
            raise UserError(f"cluster.options has {line!r}", "expected: options of sbatch, such as --qos=long")


def seconds(time: str) -> float:
    """A time limit as SLURM writes it (`minutes`, `m:s`, `h:m:s`, `days-h[:m[:s]]`) in seconds; infinite for unlimited.

    Raises UserError for what it is not.
    """
    if time.lower() in ("unlimited", "infinite"):
        return float("inf")
    match = TIME.fullmatch(time)
    if match is None:
        raise UserError(f"cluster.time={time!r} is no time limit", 'expected: "hours:minutes:seconds" or "days-hours"')
    parts = [int(part) for part in match["clock"].split(":")]
    units: tuple[int, ...] = (3600, 60, 1)
    if match["days"] is None and len(parts) < len(units):
        units = (60, 1)
    return 86400 * int(match["days"] or 0) + sum(part * unit for part, unit in zip(parts, units, strict=False))
