"""From an ablation to steps: what variants share is made once, in the base's folder.

Every seed has a helper of its own, trained with that seed: an interval over seeds then covers the helper too. The
source is one, as a published model would be.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from clp_transfer.ablations.job import DATA, HELPER, INIT, MADE_ANEW, SOURCE, STAGES, TRAIN, AblationConfig
from clp_transfer.errors import UserError
from clp_transfer.pipeline.steps import Step

Add = Callable[[str, str, list[str], list[str]], str]  # a step's name, stage, overrides, needs; returns its name
REFERENCE = "scratch"


@dataclass(frozen=True)
class Cell:
    """One trained model of the table, and where its run, its start, its helper and the run from scratch lie."""

    label: str
    arm: str
    seed: int
    run: Path
    init: Path
    helper: Path
    reference: Path


@dataclass(frozen=True)
class Places:
    """The folders that one variant's stages write to, below the experiment's outputs."""

    data: str
    source: str
    helper: str
    init: str
    train: str
    variant: str = ""


def cells(ablation: AblationConfig, base: str, seeds: list[int], outputs: Path) -> list[Cell]:
    """Every model of the table, variant by variant. `base`: the name of the experiment that is varied."""
    found = []
    for label, overrides in ablation.variants.items():
        at = places(ablation, base, label, overrides)
        for arm in ablation.arms:
            for seed in seeds:
                run = f"{arm}-seed{seed}" + (f",{at.variant}" if at.variant else "")
                found.append(
                    Cell(
                        label,
                        arm,
                        seed,
                        outputs / at.train / "runs" / run,
                        outputs / at.init / "init" / f"{arm}-seed{seed}",
                        helper_run(outputs, at, seed),
                        outputs / at.data / "runs" / f"{REFERENCE}-seed{seed}",
                    )
                )
    return found


def places(ablation: AblationConfig, base: str, label: str, overrides: list[str]) -> Places:
    """Where a variant's stages write: what it makes anew in a home of its own, everything else in the base's."""
    shared = dict.fromkeys(STAGES, base)
    if not overrides:
        return Places(**shared)
    variant = f"{ablation.name}-{label}"
    if ablation.own == TRAIN:  # a run's folder has its variant in its name
        return Places(**shared, variant=variant)
    return Places(**shared | dict.fromkeys(MADE_ANEW[ablation.own], f"{base}-{variant}"))


def helper_run(outputs: Path, at: Places, seed: int) -> Path:
    """The run folder of the helper that a seed's arms start from."""
    return outputs / at.helper / "runs" / f"helper,seed{seed}"


def steps(
    ablation: AblationConfig,
    base: str,
    seeds: list[int],
    outputs: Path,
    *,
    source: str | None = None,
    helper_file: str = "helper",
) -> list[Step]:
    """All steps, a shared one once. `base`: the name of the experiment that is varied.

    `source`: the experiment's, if it is given; null: it is trained here. `helper_file`: that of configs/run/ which
    trains the helper.

    Raises UserError for an `own` that is no stage, and for an ablation without arms, seeds or variants.
    """
    _check(ablation, seeds)
    made: dict[str, Step] = {}

    def add(name: str, stage: str, overrides: list[str], needs: list[str]) -> str:
        made.setdefault(name, Step(name, stage, overrides, needs))
        return name

    add(f"data {base}", "prepare", [f"name={base}"], [])
    for label, overrides in ablation.variants.items():
        at = places(ablation, base, label, overrides)
        home = Places(**dict.fromkeys(STAGES, at.data) | {SOURCE: base})
        changes = {stage: overrides if stage == ablation.own or ablation.own == DATA else [] for stage in STAGES}
        add(f"data {at.data}", "prepare", [f"name={at.data}", *changes[DATA]], [])
        for seed in seeds:
            # First what savings are counted against: `scratch` on the same data, with the same seed.
            for where, arms in ((home, [REFERENCE]), (at, ablation.arms)):
                own = changes if where == at else dict.fromkeys(STAGES, changes[DATA])
                needs = [_helper(add, where, seed, helper_file, own)]
                models = [f"helper='{helper_run(outputs, where, seed) / 'model'}'"]
                if source is None:
                    needs.append(_source(add, base, where, own))
                    models.append(f"source={outputs / where.source / 'runs' / 'source' / 'model'}")
                for arm in arms:
                    _arm(add, where, arm, seed, outputs, models, own, needs)
    return list(made.values())


def _source(add: Add, base: str, at: Places, changes: dict[str, list[str]]) -> str:
    run = [f"name={at.source}", f"data_of={base}", "run=source"]
    changed = changes[SOURCE] if at.source != base else []
    return add(f"source {at.source}", "train", [*run, *changed], [f"data {base}"])


def _helper(add: Add, at: Places, seed: int, file: str, changes: dict[str, list[str]]) -> str:
    run = [f"name={at.helper}", f"data_of={at.data}", f"run={file}", f"seed={seed}", f"variant=seed{seed}"]
    return add(f"helper {at.helper} {seed}", "train", [*run, *changes[HELPER]], [f"data {at.data}"])


def _arm(
    add: Add,
    at: Places,
    arm: str,
    seed: int,
    outputs: Path,
    models: list[str],
    changes: dict[str, list[str]],
    needs: list[str],
) -> None:
    """The two steps of one arm: initialise, train. The changes are of the stages that this place owns."""
    packs = outputs / at.data / "data" / "packs" / "target" / "train"
    own = [f"data_of={at.data}", f"method={arm}", f"seed={seed}"]
    made = [f"name={at.init}", *own, *models, f"text={packs}", *changes[INIT]]
    init = add(f"init {at.init} {arm} {seed}", "clp", made, needs)
    trained = [f"name={at.train}", *own, *([f"variant={at.variant}"] if at.variant else [])]
    where = f"{at.train} {at.variant}" if at.variant else at.train
    add(f"train {where} {arm} {seed}", "train", [*trained, *changes[TRAIN]], [init])


def _check(ablation: AblationConfig, seeds: list[int]) -> None:
    if ablation.own not in STAGES:
        raise UserError(f"ablation.own={ablation.own} is no stage", f"expected: {', '.join(STAGES)}")
    missing = [key for key in ("name", "arms", "variants") if not getattr(ablation, key)]
    if missing or not seeds:
        raise UserError(
            f"the ablation has no {missing[0] if missing else 'seeds'}", "choose one: make ablate ABLATION=vocabulary"
        )
