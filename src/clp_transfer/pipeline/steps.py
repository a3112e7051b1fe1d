"""From the pipeline's config to single steps: one for every combination of the lists that a step repeats over."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

from clp_transfer.config.folders import seeds_of
from clp_transfer.config.schema import Config, StepConfig
from clp_transfer.errors import UserError


@dataclass(frozen=True)
class Step:
    """One process to run: a stage, its overrides, and the names of the steps that must be complete before it."""

    name: str
    stage: str
    overrides: list[str]
    needs: list[str] = field(default_factory=list)


def expand(config: Config) -> list[Step]:
    """All steps in the config's order. A needed step that repeats over the same lists is matched value by value.

    Arms of `one_seed` have steps for the first seed only.

    Raises UserError for a step that needs an unknown or a later one, or repeats over a key that is no list.
    """
    made: dict[str, list[tuple[dict[str, Any], str]]] = {}
    steps: list[Step] = []
    for name, step in config.pipeline.steps.items():
        unknown = [need for need in step.needs if need not in made]
        if unknown:
            raise UserError(
                f"pipeline.steps.{name} needs {', '.join(unknown)}, which no step before it is called",
                f"the steps before it: {', '.join(made) or 'none'}",
            )
        made[name] = []
        for values in _combinations(config, name, step):
            full = name + "".join(f" {value}" for value in values.values())
            needs = [full_need for need in step.needs for bound, full_need in made[need] if _agree(bound, values)]
            overrides = [*step.overrides, *(f"{key}={value}" for key, value in values.items())]
            steps.append(Step(full, step.stage, overrides, needs))
            made[name].append((values, full))
    return steps


def _combinations(config: Config, name: str, step: StepConfig) -> list[dict[str, Any]]:
    lists: dict[str, list[Any]] = {}
    for override, key in step.for_each.items():
        values: Any = getattr(config, key, None)
        if not isinstance(values, list):
            raise UserError(f"pipeline.steps.{name}.for_each: {key} is not a list of the config", "use arms or seeds")
        lists[override] = values
    found = [dict(zip(lists, values, strict=True)) for values in itertools.product(*lists.values())]
    return [values for values in found if _is_trained(config, values)]


def _is_trained(config: Config, values: dict[str, Any]) -> bool:
    """False for an arm of which only the first seed is trained, with another one."""
    return "seed" not in values or "method" not in values or values["seed"] in seeds_of(config, values["method"])


def _agree(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two steps' values are equal wherever both have one."""
    return all(other.get(key, value) == value for key, value in one.items())
