"""The whole pipeline: composes every step's config and hands the steps to the scheduler."""

from __future__ import annotations

import logging
import os
import sys
import time
from pathlib import Path
from typing import Any

from clp_transfer.cli.schema import to_config
from clp_transfer.cli.stages import JOBS
from clp_transfer.config.jobs import root
from clp_transfer.config.schema import Config
from clp_transfer.errors import UserError
from clp_transfer.files import locked, read_json
from clp_transfer.pipeline.process import die_with_parent
from clp_transfer.pipeline.scheduler import run_steps
from clp_transfer.pipeline.steps import Step, expand

log = logging.getLogger(__name__)

SCRIPTS = {"report": "scripts/report.py"}


def reproduce(config: Config, overrides: list[str]) -> None:
    """Run the experiment's steps that are not complete, then print the summary table."""
    from hydra import compose

    if os.environ.pop("DIE_WITH_PARENT", ""):  # set by make: a killed make must not leave us running
        die_with_parent()
    started = time.time()
    steps = expand(config)
    if not config.arms or not config.seeds:
        raise UserError("the experiment has no arms or no seeds", "set arms=[…] and seeds=[…], or name an experiment=")
    repository = Path(sys.argv[0]).resolve().parents[1]

    configs = {s.name: to_config(compose(config_name=s.stage, overrides=[*overrides, *s.overrides])) for s in steps}

    def job_of(step: Step) -> Any:
        return JOBS[step.stage](configs[step.name])

    for step in steps:  # a mistake in the last step's config is told now, not after hours
        job_of(step)

    def command_of(step: Step) -> list[str]:
        script = SCRIPTS.get(step.stage, f"{step.stage}.py")
        return [sys.executable, str(repository / script), *overrides, *step.overrides]

    folder = root(config)
    with locked(folder / ".reproduce.lock"):
        ran = run_steps(steps, job_of, command_of, folder / "logs", config.pipeline.workers)
    from clp_transfer.report.summary import summary_table

    log.info("\n%s", summary_table(read_json(folder / "report" / "results.json")))
    if not ran:
        log.info("\nNothing to do: all %d steps are complete and unchanged.", len(steps))
    minutes, seconds = divmod(round(time.time() - started), 60)
    log.info("%d of %d steps ran, %d:%02d min", len(ran), len(steps), minutes, seconds)
    log.info("Report: %s", (folder / "report" / "index.html").resolve())
