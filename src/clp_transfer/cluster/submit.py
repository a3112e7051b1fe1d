"""Submit an experiment's steps that are not complete, each waiting for what it needs."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clp_transfer.cluster import slurm
from clp_transfer.cluster.freeze import freeze_code, freeze_config
from clp_transfer.cluster.script import Place, script, slug
from clp_transfer.cluster.submission import FOLDER, Job, Submission, last
from clp_transfer.config.schema import Config
from clp_transfer.errors import UserError
from clp_transfer.files import locked, write_text
from clp_transfer.manifest import is_done
from clp_transfer.pipeline.steps import Step
from clp_transfer.prepare.job import ClusterConfig


@dataclass(frozen=True)
class Planned:
    """A step with the config that its job gets, and the job made of it."""

    step: Step
    config: Config
    job: Any


def complete(planned: list[Planned]) -> set[str]:
    """The steps whose results stand. What needs an unfinished step is unfinished: its inputs will be others."""
    done: set[str] = set()
    for one in planned:
        if done.issuperset(one.step.needs) and is_done(one.job, one.job.plan()):
            done.add(one.step.name)
    return done


def new_folder(root: Path) -> Path:
    """The folder of a submission that begins now, absolute; not made yet."""
    return (root / FOLDER / time.strftime("%Y%m%d-%H%M%S")).absolute()


def scripts(planned: list[Planned], done: set[str], cluster: ClusterConfig, place: Place) -> dict[str, str]:
    """The batch scripts by file name, in the order in which they are submitted."""
    return {f"{slug(one.step)}.sh": script(one.step, cluster, place) for one in planned if one.step.name not in done}


def dry_run(planned: list[Planned], done: set[str], texts: Mapping[str, str]) -> str:
    """What would be submitted, as text: each command with the script that it names."""
    parts = [f"# {one.step.name}: complete, not submitted\n" for one in planned if one.step.name in done]
    for one in planned:
        if one.step.name in done:
            continue
        name = f"{slug(one.step)}.sh"
        after = ":".join(f"<{need}>" for need in one.step.needs if need not in done)
        dependency = f" --dependency=afterok:{after}" if after else ""
        parts.append(f"# sbatch --parsable{dependency} {name}\n{texts[name]}")
    return "\n".join(parts)


def submit(planned: list[Planned], cluster: ClusterConfig, place: Place, repository: Path, root: Path) -> Submission:
    """Freeze code and configs, and submit; where one is refused, those before it are cancelled.

    Raises UserError where there is no SLURM, a job is refused, or jobs of an earlier submission are in the queue.
    """
    slurm.require()
    with locked(root / ".submit.lock"):
        before = last(root)
        if before is not None and (waiting := slurm.queue(before.ids)):
            raise UserError(
                f"jobs of {before.folder} are still in the queue: {', '.join(waiting)}",
                "make status shows them, make cancel cancels them",
            )
        done = complete(planned)
        submission = Submission(place.folder, place.revision, [])
        if len(done) == len(planned):
            return submission
        freeze_code(repository, place.folder / "code")
        for part in ("logs", "ended"):
            (place.folder / part).mkdir()
        texts = scripts(planned, done, cluster, place)
        for one in planned:
            if one.step.name not in done:
                name = slug(one.step)
                title = f"{one.step.name} of {place.experiment}: every value as it was when the job was submitted."
                freeze_config(one.config, place.folder / "config" / f"job-{name}.yaml", title)
                write_text(place.folder / "scripts" / f"{name}.sh", texts[f"{name}.sh"])
        _submit_all(submission, planned, done)
        return submission


def _submit_all(submission: Submission, planned: list[Planned], done: set[str]) -> None:
    ids: dict[str, str] = {}
    try:
        for one in planned:
            step = one.step
            job = Job(step.name, slug(step), str(Path(one.job.out).absolute()), None, step.needs)
            if step.name not in done:
                file = submission.folder / "scripts" / f"{job.slug}.sh"
                ids[step.name] = job.job = slurm.submit(file, [ids[need] for need in step.needs if need in ids])
            submission.jobs.append(job)
            submission.save()  # after each, so that none is lost sight of
    except UserError:
        with suppress(UserError):
            if ids:
                slurm.cancel(list(ids.values()))
        raise
