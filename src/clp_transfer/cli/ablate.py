"""An ablation: every variant's steps, then its table and its picture."""

from __future__ import annotations

import logging
from pathlib import Path

from clp_transfer.ablations.steps import cells, steps
from clp_transfer.cli.launch import Launcher
from clp_transfer.config.folders import root
from clp_transfer.config.schema import Config

log = logging.getLogger(__name__)


def ablate(config: Config, overrides: list[str]) -> None:
    """Run what is not complete of the ablation, a few steps at a time; then write and print what came out."""
    outputs, folder = Path(config.paths.outputs), root(config) / "ablations" / config.ablation.name
    own = (config.ablation, config.name, config.seeds, outputs)
    todo = steps(*own, source=config.source, helper_file=config.helper_run)
    Launcher(config, todo, overrides).run()
    from clp_transfer.ablations.collect import collect
    from clp_transfer.ablations.publish import write
    from clp_transfer.ablations.table import titled

    found = collect(config.ablation, cells(*own))
    write(found, folder)
    log.info("\n%s\n\n%s", titled(found), folder.resolve())
