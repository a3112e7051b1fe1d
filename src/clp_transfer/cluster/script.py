"""The batch script of a step: what it asks of SLURM, how it starts its ranks, what happens at the time limit."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from clp_transfer.pipeline.steps import Step
from clp_transfer.prepare.job import ClusterConfig

SCRIPTS = {"report": "scripts/report.py"}
ON_GPU = ("train", "clp", "evaluate")


@dataclass(frozen=True)
class Place:
    """Where a submission lies and runs; absolute paths.

    `folder`: of the submission. `runs_in`: the folder that the config's relative paths are relative to. `binds`: what
    a container must see. `python`: the folder of the Python that submits. `revision`: of the frozen code.
    """

    experiment: str
    folder: Path
    runs_in: Path
    binds: tuple[str, ...]
    python: Path
    revision: str


@dataclass(frozen=True)
class Share:
    """What one step gets: nodes; of each its cores, GPUs and ranks; and the partition."""

    nodes: int
    cpus: int
    gpus: int
    ranks: int
    partition: str | None


def slug(step: Step) -> str:
    """The step's name as a file's."""
    return step.name.replace(" ", "-")


def share(stage: str, cluster: ClusterConfig) -> Share:
    """Training gets whole nodes; the transfer and evaluation one GPU, where there are any; the others none."""
    if stage == "train":
        ranks = cluster.gpus_per_node or cluster.tasks_per_node
        return Share(cluster.nodes, cluster.cpus_per_node, cluster.gpus_per_node, ranks, cluster.partition)
    gpus = min(1, cluster.gpus_per_node) if stage in ON_GPU else 0
    cpus = cluster.cpus_per_node
    if stage in ("evaluate", "report"):  # several at a time on a node
        cpus = max(1, cpus // max(1, cluster.gpus_per_node))
    return Share(1, cpus, gpus, 1, cluster.partition if gpus else cluster.cpu_partition or cluster.partition)


def script(step: Step, cluster: ClusterConfig, place: Place) -> str:
    """The text of the step's batch script."""
    return _template().render(
        step=step,
        cluster=cluster,
        experiment=place.experiment,
        slug=slug(step),
        share=share(step.stage, cluster),
        training=step.stage == "train",
        script=SCRIPTS.get(step.stage, f"{step.stage}.py"),
        folder=str(place.folder),
        place=str(place.runs_in),
        python=str(place.python),
        revision=place.revision,
        binds=",".join(dict.fromkeys([*place.binds, *cluster.binds])),
        quote=shlex.quote,
        option=_option,
    )


def _option(value: str) -> str:
    """A value as `#SBATCH` lines take it: in double quotes where it has blanks."""
    return f'"{value}"' if any(sign.isspace() for sign in value) else value


@cache
def _template() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("clp_transfer.cluster"),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
    )
    return environment.get_template("job.sh.j2")
