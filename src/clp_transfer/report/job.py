"""What the report stage is asked to do, and what determines its result."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clp_transfer.errors import UserError
from clp_transfer.manifest import Plan, digest

# Of the config: where results lie, how they are tracked, on which machines they are made. None of it is on the page.
NOT_SHOWN = ("paths", "wandb", "pipeline", "cluster", "dry_run")


@dataclass
class ArmRun:
    """One trained arm with one seed: its run, its initialisation and its evaluation folders.

    `arm` is its name in the comparison. Where runs of several experiments are merged: the `experiment` it comes from,
    and its name there, `base` (empty: the same). `variant`: what a sweep added to the run's name.
    """

    arm: str
    seed: int
    run: Path
    init: Path
    evaluation: Path
    experiment: str = ""
    base: str = ""
    variant: str = ""


@dataclass
class ReportJob:
    """Everything that the page shows; `ingredients` are the runs that the arms needed (source, helper).

    Where every seed has a helper of its own, `helper` is the first and the others are `helper,seed<n>`.

    Of a merge, `ingredients` and `more_data` name the experiment as well (`mini/helper`, see `ingredient`). `lost`:
    runs that were found but are not finished, {"run", "reason"} each. `kept`: the results.json of earlier reports, by
    experiment. `apart`: arms are called by experiment and name (`mini/ridge`).
    """

    name: str
    out: Path
    data: Path
    arms: list[ArmRun]
    ingredients: dict[str, Path] = field(default_factory=dict)
    step0: dict[str, Path] = field(default_factory=dict)
    config: dict[str, object] = field(default_factory=dict)
    more_data: dict[str, Path] = field(default_factory=dict)
    lost: list[dict[str, str]] = field(default_factory=list)
    kept: dict[str, Path] = field(default_factory=dict)
    apart: bool = False

    def plan(self) -> Plan:
        """The contents of every folder that the page reads; one that is missing counts as that, and is told there."""
        inputs = {"data": _digest(self.data, "statistics.json", "tasks/*")}
        for name, path in self.more_data.items():
            inputs[f"data of {name}"] = _digest(path, "statistics.json", "tasks/*")
        for arm in self.arms:
            label = f"{arm.arm}-{arm.seed}" + (f",{arm.variant}" if arm.variant else "")
            for part in ("run", "init", "evaluation"):
                inputs[f"{label}-{part}"] = _digest(getattr(arm, part))
        for name, path in {**self.ingredients, **self.step0}.items():
            inputs[name] = _digest(path)
        for name, path in self.kept.items():
            inputs[f"kept numbers of {name}"] = _digest(path.parent, path.name)
        settings: dict[str, Any] = {"name": self.name, "arms": [a.arm for a in self.arms]}
        settings |= {"config": {k: v for k, v in self.config.items() if k not in NOT_SHOWN}}
        if self.lost:
            settings["lost"] = self.lost
        return Plan("report", self.out, settings, inputs)


def ingredient(experiment: str, name: str) -> str:
    """The key of an ingredient (`source`, `helper`) among all experiments' ones."""
    return f"{experiment}/{name}" if experiment else name


def _digest(folder: Path, *patterns: str) -> str:
    try:
        return digest(folder, *patterns)
    except UserError as error:
        return f"missing: {error.problem}"
