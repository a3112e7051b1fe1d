"""The whole pipeline: composes every step's config and hands the steps to the scheduler."""

from __future__ import annotations

import logging
import time

from clp_transfer.cli.launch import Launcher
from clp_transfer.config.folders import root
from clp_transfer.config.schema import Config
from clp_transfer.errors import UserError
from clp_transfer.files import read_json
from clp_transfer.pipeline.steps import expand

log = logging.getLogger(__name__)


def reproduce(config: Config, overrides: list[str]) -> None:
    """Run the experiment's steps that are not complete, then print the summary table."""
    started = time.time()
    steps = expand(config)
    if not config.arms or not config.seeds:
        raise UserError("the experiment has no arms or no seeds", "set arms=[…] and seeds=[…], or name an experiment=")
    ran = Launcher(config, steps, overrides).run()
    folder = root(config)
    from clp_transfer.report.summary import summary_table

    log.info("\n%s", summary_table(read_json(folder / "report" / "results.json")))
    if not ran:
        log.info("\nNothing to do: all %d steps are complete and unchanged.", len(steps))
    minutes, seconds = divmod(round(time.time() - started), 60)
    log.info("%d of %d steps ran, %d:%02d min", len(ran), len(steps), minutes, seconds)
    log.info("Report: %s", (folder / "report" / "index.html").resolve())
