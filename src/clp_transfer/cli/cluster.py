"""`make submit`, `make status`, `make cancel`: an experiment's steps as SLURM jobs."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from clp_transfer.cli.launch import Launcher
from clp_transfer.cli.stages import JOBS
from clp_transfer.cluster import slurm
from clp_transfer.cluster import submit as submitting
from clp_transfer.cluster.freeze import on_node
from clp_transfer.cluster.limits import check
from clp_transfer.cluster.script import Place, share
from clp_transfer.cluster.status import status_table
from clp_transfer.cluster.submission import Submission, last
from clp_transfer.config.folders import root
from clp_transfer.config.schema import Config
from clp_transfer.errors import UserError
from clp_transfer.made_with import provenance
from clp_transfer.pipeline.steps import expand

log = logging.getLogger(__name__)


def submit(config: Config, overrides: list[str]) -> None:
    """Submit the steps that are not complete; with `dry_run=true`, print their scripts."""
    check(config.cluster)
    steps = expand(config)
    launcher = Launcher(config, steps, overrides)
    planned = []
    for step in steps:
        one = on_node(launcher.configs[step.name], step.stage, share(step.stage, config.cluster).cpus)
        planned.append(submitting.Planned(step, one, JOBS[step.stage](one)))
    place = _place(config)
    if config.dry_run:
        done = submitting.complete(planned)
        log.info("%s", submitting.dry_run(planned, done, submitting.scripts(planned, done, config.cluster, place)))
        return
    submission = submitting.submit(planned, config.cluster, place, launcher.repository, root(config))
    if not submission.ids:
        log.info("Nothing to do: all %d steps are complete and unchanged.", len(steps))
        return
    for job in submission.jobs:
        log.info("%-8s %s", job.job or "complete", job.step)
    log.info("Frozen in %s\nmake status shows how far they are, make cancel cancels them", submission.folder)


def status(config: Config, overrides: list[str]) -> None:
    """Print where the jobs of the last submission are."""
    submission = _last(config)
    log.info("%s\n\n%s", submission.folder, status_table(submission))


def cancel(config: Config, overrides: list[str]) -> None:
    """Cancel the jobs of the last submission that are in the queue."""
    submission = _last(config)
    waiting = list(slurm.queue(submission.ids))
    if waiting:
        slurm.cancel(waiting)
    log.info("cancelled: %s" if waiting else "no job of %s is in the queue", ", ".join(waiting) or submission.folder)


def _last(config: Config) -> Submission:
    submission = last(root(config))
    if submission is None:
        raise UserError(f"nothing of {config.name} was submitted from here", "make submit, or name another experiment=")
    return submission


def _place(config: Config) -> Place:
    here, folder = Path.cwd(), submitting.new_folder(root(config))
    seen = [here, Path(config.paths.outputs).absolute(), Path(config.paths.cache).absolute()]
    binds = tuple(str(p) for p in seen if p == here or not p.is_relative_to(here))
    revision = provenance()["git"]
    return Place(config.name, folder, here, binds, Path(sys.executable).parent, revision)
