"""What the report stage is asked to do, and what determines its result."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clp_transfer.manifest import Plan, digest


@dataclass
class ArmRun:
    """One trained arm with one seed: its run, its initialisation and its evaluation folders."""

    arm: str
    seed: int
    run: Path
    init: Path
    evaluation: Path


@dataclass
class ReportJob:
    """Everything that the page shows; `ingredients` are the runs that the arms needed (source, helper)."""

    name: str
    out: Path
    data: Path
    arms: list[ArmRun]
    ingredients: dict[str, Path] = field(default_factory=dict)
    step0: dict[str, Path] = field(default_factory=dict)
    config: dict[str, object] = field(default_factory=dict)

    def plan(self) -> Plan:
        """The contents of every folder that the page reads."""
        inputs = {"data": digest(self.data, "statistics.json", "tasks/*")}
        for arm in self.arms:
            for part in ("run", "init", "evaluation"):
                inputs[f"{arm.arm}-{arm.seed}-{part}"] = digest(getattr(arm, part))
        for name, path in {**self.ingredients, **self.step0}.items():
            inputs[name] = digest(path)
        settings: dict[str, Any] = {"name": self.name, "arms": [a.arm for a in self.arms]}
        # What the page shows of the config; where results lie and how they are tracked changes none of it.
        settings |= {"config": {k: v for k, v in self.config.items() if k not in ("paths", "wandb", "pipeline")}}
        return Plan("report", self.out, settings, inputs)
