"""Find every arm's peak learning rate: the same values for all, one short run each."""

from __future__ import annotations

import json
import logging

from clp_transfer.cli.launch import Launcher
from clp_transfer.config.schema import Config
from clp_transfer.files import read_json
from clp_transfer.pipeline.steps import Step

log = logging.getLogger(__name__)


def tune(config: Config, overrides: list[str]) -> dict[str, dict[float, float]]:
    """Train every arm with every rate of `tuning_rates` for `tuning_tokens`; prints the table to put in the config.

    The arms must be initialised already (`make reproduce` does that, or clp.py). Values are held-out nats per token.
    """
    steps = {
        (arm, lr): Step(
            f"{arm} {lr:g}",
            "train",
            [f"method={arm}", f"optim.lr={lr}", f"budget.tokens={config.tuning_tokens}", f"variant=tune-{lr:g}"],
        )
        for arm in config.arms
        for lr in config.tuning_rates
    }

    launcher = Launcher(config, list(steps.values()), overrides)
    launcher.run()
    table: dict[str, dict[float, float]] = {}
    for (arm, lr), step in steps.items():
        final = read_json(launcher.job(step).out / "summary.json")["final"]
        table.setdefault(arm, {})[lr] = round(final["nats_per_token"], 4)
    log.info("\ntuning:")
    for arm, row in table.items():
        log.info("  %s: %s", arm, json.dumps(row).replace('"', ""))
    return table
