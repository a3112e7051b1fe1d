"""What an experiment's training runs would need and take on common machines, before anything is computed: estimates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from clp_transfer.errors import UserError
from clp_transfer.train.estimate import MACHINES, MFU, Machine, Shape, batch_problem, estimate, shape_of, table, time_of
from clp_transfer.train.job import PlannedRun

NOTE = (
    "Estimates, none of them measured: memory from DeepSpeed's own estimators and formulas, time from an MFU of"
    f" {MFU:.0%} (docs/scaling.md). Transfer and evaluation are not counted; a transfer takes seconds to minutes."
)


def plan(runs: Sequence[PlannedRun]) -> str:
    """Markdown: for each kind of run a table over machines, then what all runs together take where they can train.

    Raises UserError where a model's config cannot be read.
    """
    shapes = [shape(run) for run in runs]
    parts = []
    for run, found in zip(runs, shapes, strict=True):
        each = f"{run.times} runs of " if run.times > 1 else ""
        title = f"## {run.name}: {each}{found.parameters / 1e6:,.1f} M parameters, {run.tokens / 1e6:,.1f} M tokens"
        parts.append(f"{title}\n\n{table({run.name: found}, run.tokens, batch_tokens=run.batch_tokens)}")
    # Where some run's batch cannot be shared, the sum of the others would look like the whole.
    whole = [machine for machine in MACHINES if not any(map(_problem, runs, shapes, [machine] * len(runs)))]
    totals = [f"| {machine.name} | {_total(runs, shapes, machine)} |" for machine in whole]
    parts.append("\n".join(["## All runs, one after another", "", "| GPUs | time |", "|---|--:|", *totals]))
    return "\n\n".join([*parts, NOTE])


def shape(run: PlannedRun) -> Shape:
    """The shape of the run's model, from its config alone; nothing is loaded."""
    import torch
    from transformers import AutoModelForCausalLM

    config = _config(run)
    with torch.device("meta"):
        return shape_of(AutoModelForCausalLM.from_config(config), run.length)


def _config(run: PlannedRun) -> Any:
    from transformers import AutoConfig

    from clp_transfer.train.architecture import config_of

    rows = {} if run.vocabulary is None else {"vocab_size": run.vocabulary}
    if run.model is None:
        return config_of(run.architecture, rows)
    try:
        return AutoConfig.from_pretrained(run.model, **rows)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{run.name}: the config of {run.model} cannot be read: {str(error).splitlines()[0]}",
            "give a folder that has its config.json, or make the hub reachable once: it is then kept",
        ) from error


def _problem(run: PlannedRun, shape: Shape, machine: Machine) -> str:
    return batch_problem(shape, machine, run.batch_tokens)


def _total(runs: Sequence[PlannedRun], shapes: Sequence[Shape], machine: Machine) -> str:
    try:
        found = [
            estimate(one, machine, run.tokens, MFU, run.batch_tokens) for run, one in zip(runs, shapes, strict=True)
        ]
    except UserError:
        return "does not fit"
    return time_of(sum(run.times * one.hours for run, one in zip(runs, found, strict=True)))
