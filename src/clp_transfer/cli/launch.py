"""Steps as commands: compose every step's config first, then let the scheduler start the scripts."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from clp_transfer.cli.schema import to_config
from clp_transfer.cli.stages import JOBS
from clp_transfer.config.folders import root
from clp_transfer.config.schema import Config
from clp_transfer.files import locked
from clp_transfer.pipeline.process import die_with_parent
from clp_transfer.pipeline.scheduler import run_steps
from clp_transfer.pipeline.steps import Step

SCRIPTS = {"report": "scripts/report.py"}


class Launcher:
    """Runs an experiment's steps with the overrides of the command line.

    All configs are composed and made into jobs at once, so that a mistake in the last is told now, not after hours.
    """

    def __init__(self, config: Config, steps: list[Step], overrides: list[str]) -> None:
        if os.environ.pop("DIE_WITH_PARENT", ""):  # set by make: a killed make must not leave us running
            die_with_parent()
        from hydra import compose

        self.config, self.steps, self.overrides = config, steps, overrides
        self.repository = Path(sys.argv[0]).resolve().parents[1]
        self.configs = {s.name: to_config(compose(s.stage, overrides=[*overrides, *s.overrides])) for s in steps}
        for step in steps:
            self.job(step)

    def job(self, step: Step) -> Any:
        """The step's job; made anew each time, because a report's depends on what is there."""
        return JOBS[step.stage](self.configs[step.name])

    def command(self, step: Step) -> list[str]:
        """The step's command line."""
        script = SCRIPTS.get(step.stage, f"{step.stage}.py")
        return [sys.executable, str(self.repository / script), *self.overrides, *step.overrides]

    def run(self) -> list[str]:
        """Bring all steps to completion; returns the names of those that ran."""
        folder = root(self.config)
        with locked(folder / ".reproduce.lock"):
            pipeline = self.config.pipeline
            return run_steps(
                self.steps, self.job, self.command, folder / "logs", pipeline.workers, seconds=pipeline.seconds
            )
