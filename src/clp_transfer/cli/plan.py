"""What `make plan` prints: an experiment's training runs on common machines, from its config alone."""

from __future__ import annotations

import logging
from collections import Counter

from clp_transfer.cli.schema import to_config
from clp_transfer.config.jobs import planned_run
from clp_transfer.config.schema import Config
from clp_transfer.errors import UserError
from clp_transfer.pipeline.steps import expand

log = logging.getLogger(__name__)


def plan(config: Config, overrides: list[str]) -> None:
    """Print memory, settings and time of the experiment's training steps; runs that are alike count together."""
    from hydra import compose

    configs = [
        to_config(compose("train", overrides=[*overrides, *step.overrides]))
        for step in expand(config)
        if step.stage == "train"
    ]
    if not configs:
        raise UserError("the experiment's pipeline has no training step", "choose another experiment= or pipeline=")
    source = to_config(compose("train", overrides=[*overrides, "run=source"]))
    counts = Counter(one.run for one in configs)
    first = {one.run: one for one in reversed(configs)}
    runs = [planned_run(first[run], source.architecture, times) for run, times in counts.items()]
    from clp_transfer.train.plan import plan as tables

    log.info("# %s\n\n%s", config.name, tables(runs))
