"""Find every arm's peak learning rate: the same values for all, one short run each."""

from __future__ import annotations

import json
import logging
import math
from dataclasses import replace

from clp_transfer.cli.launch import Launcher
from clp_transfer.config.folders import tuning_file
from clp_transfer.config.schema import Config
from clp_transfer.errors import UserError
from clp_transfer.files import read_json, write_json
from clp_transfer.pipeline.steps import Step, expand

log = logging.getLogger(__name__)


def tune(config: Config, overrides: list[str]) -> dict[str, dict[float, float]]:
    """Train every arm with every rate of `tuning_rates` for `tuning_tokens`, after all that it needs; the first seed.

    Prints the table and writes it to `tuning.json` in the experiment's folder, where training looks for the rate.
    Values are held-out nats per token, null where the loss was no number.
    """
    before, inits = _until_init(config)
    runs = {(arm, lr): _run(config, arm, lr, inits[arm]) for arm in config.arms for lr in config.tuning_rates}
    launcher = Launcher(config, [*before, *runs.values()], overrides)
    launcher.run()
    table: dict[str, dict[float, float]] = {}
    for (arm, lr), step in runs.items():
        final = read_json(launcher.job(step).out / "summary.json")["final"]
        table.setdefault(arm, {})[lr] = round(float(final["nats_per_token"]), 4)
    _write(config, table)
    log.info("\ntuning:")
    for arm, row in table.items():
        log.info("  %s: %s", arm, json.dumps(row).replace('"', ""))
    return table


def _until_init(config: Config) -> tuple[list[Step], dict[str, str]]:
    """The steps of the pipeline up to every arm's initialisation with the first seed, and the latter's names by arm."""
    steps = {step.name: step for step in expand(replace(config, seeds=config.seeds[:1]))}
    inits = {arm: step.name for step in steps.values() for arm in config.arms if _makes(step, arm)}
    missing = [arm for arm in config.arms if arm not in inits]
    if missing or not config.arms:
        raise UserError(
            f"the pipeline has no step that initialises {', '.join(missing) or 'an arm'}",
            "name an experiment= that has arms, and a pipeline= with a step of stage clp",
        )
    wanted, pending = set[str](), list(inits.values())
    while pending:
        name = pending.pop()
        if name not in wanted:
            wanted.add(name)
            pending += steps[name].needs
    return [step for name, step in steps.items() if name in wanted], inits


def _makes(step: Step, arm: str) -> bool:
    return step.stage == "clp" and f"method={arm}" in step.overrides


def _run(config: Config, arm: str, lr: float, init: str) -> Step:
    """One short run, measured at its end; nothing is compiled for it, which would take longer than it does."""
    own = [f"method={arm}", f"seed={config.seeds[0]}", f"variant=tune-{lr:g}", f"optim.lr={lr}"]
    short = [f"budget.tokens={config.tuning_tokens}", "train.compile=false", "validation.points=1"]
    return Step(f"tune {arm} {lr:g}", "train", [*own, *short], [init])


def _write(config: Config, table: dict[str, dict[float, float]]) -> None:
    """Put the rows into the file, beside those of arms that were not asked for now."""
    path = tuning_file(config)
    rows = read_json(path) if path.is_file() else {}
    path.parent.mkdir(parents=True, exist_ok=True)
    for arm, row in table.items():
        rows[arm] = {f"{lr:g}": loss if math.isfinite(loss) else None for lr, loss in row.items()}
    write_json(path, rows)
