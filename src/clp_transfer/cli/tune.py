"""Find every arm's peak learning rate: the same values for all, one short run each."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any

from clp_transfer.cli.schema import to_config
from clp_transfer.cli.stages import JOBS
from clp_transfer.config.jobs import root
from clp_transfer.config.schema import Config
from clp_transfer.files import locked, read_json
from clp_transfer.pipeline.scheduler import run_steps
from clp_transfer.pipeline.steps import Step

log = logging.getLogger(__name__)


def tune(config: Config, overrides: list[str]) -> dict[str, dict[float, float]]:
    """Train every arm with every rate of `tuning_rates` for `tuning_tokens`; prints the table to put in the config.

    The arms must be initialised already (`make reproduce` does that, or clp.py). Values are held-out nats per token.
    """
    from hydra import compose

    repository = Path(sys.argv[0]).resolve().parents[1]
    steps = {
        (arm, lr): Step(
            f"{arm} {lr:g}",
            "train",
            [f"method={arm}", f"optim.lr={lr}", f"budget.tokens={config.tuning_tokens}", f"variant=tune-{lr:g}"],
        )
        for arm in config.arms
        for lr in config.tuning_rates
    }

    def job_of(step: Step) -> Any:
        return JOBS["train"](to_config(compose(config_name="train", overrides=[*overrides, *step.overrides])))

    def command_of(step: Step) -> list[str]:
        return [sys.executable, str(repository / "train.py"), *overrides, *step.overrides]

    folder = root(config)
    with locked(folder / ".reproduce.lock"):
        run_steps(list(steps.values()), job_of, command_of, folder / "logs", config.pipeline.workers)
    table: dict[str, dict[float, float]] = {}
    for (arm, lr), step in steps.items():
        final = read_json(job_of(step).out / "summary.json")["final"]
        table.setdefault(arm, {})[lr] = round(final["nats_per_token"], 4)
    log.info("\ntuning:")
    for arm, row in table.items():
        log.info("  %s: %s", arm, json.dumps(row).replace('"', ""))
    return table
