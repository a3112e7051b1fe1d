"""From an ablation to steps: what variants share is made once, in the base's folder.

Every seed has a helper of its own, trained with that seed: an interval over seeds then covers the helper too. The
source is one, as a published model would be.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from clp_transfer.ablations.job import DATA, HELPER, INIT, OWN, TRAIN, AblationConfig
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
    """Where a variant's stages write: in a home of its own from `own` on, in the base's before that."""
    if not overrides:
        return Places(base, base, base, base)
    variant = f"{ablation.name}-{label}"
    if ablation.own == TRAIN:  # a run's folder has its variant in its name
        return Places(base, base, base, base, variant)
    own, first = f"{base}-{variant}", OWN.index(ablation.own)
    return Places(*(own if OWN.index(stage) >= first else base for stage in OWN))


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
    helper_run: str = "helper",
) -> list[Step]:
    """All steps, a shared one once. `base`: the name of the experiment that is varied.

    `source`: the experiment's, if it is given; null: it is trained here. `helper_run`: the file of configs/run/ that
    trains the helper.

    Raises UserError for an `own` that is no stage, and for an ablation without arms, seeds or variants.
    """
    _check(ablation, seeds)
    made: dict[str, Step] = {}

    def add(name: str, stage: str, overrides: list[str], needs: list[str]) -> str:
        made.setdefault(name, Step(name, stage, overrides, needs))
        return name

    base_data = add(f"data {base}", "prepare", [f"name={base}"], [])
    made_here = source is None
    first = add("source", "train", [f"name={base}", "run=source"], [base_data]) if made_here else base_data
    own_source = [f"source={outputs / base / 'runs' / 'source' / 'model'}"] if made_here else []
    for label, overrides in ablation.variants.items():
        at = places(ablation, base, label, overrides)
        home = Places(at.data, at.data, at.data, at.data)
        changes = {stage: overrides if stage == ablation.own or ablation.own == DATA else [] for stage in OWN}
        add(f"data {at.data}", "prepare", [f"name={at.data}", *changes[DATA]], [])
        for seed in seeds:
            # First what savings are counted against: `scratch` on the same data, with the same seed.
            for where, arms in ((home, [REFERENCE]), (at, ablation.arms)):
                own = changes if where == at else dict.fromkeys(OWN, changes[DATA])
                helper = _helper(add, where, seed, helper_run, own)
                for arm in arms:
                    _arm(add, where, arm, seed, outputs, own_source, changes, [first, helper])
    return list(made.values())


def _helper(add: Add, at: Places, seed: int, file: str, changes: dict[str, list[str]]) -> str:
    run = [f"name={at.helper}", f"data_of={at.data}", f"run={file}", f"seed={seed}", f"variant=seed{seed}"]
    return add(f"helper {at.helper} {seed}", "train", [*run, *changes[HELPER]], [f"data {at.data}"])


def _arm(
    add: Add,
    at: Places,
    arm: str,
    seed: int,
    outputs: Path,
    source: list[str],
    changes: dict[str, list[str]],
    needs: list[str],
) -> None:
    """The two steps of one arm: initialise, train. The changes are of the stages that this place owns."""
    packs = outputs / at.data / "data" / "packs" / "target" / "train"
    own = [f"data_of={at.data}", f"method={arm}", f"seed={seed}"]
    models = [
        *source,
        f"helper='{helper_run(outputs, at, seed) / 'model'}'",
        f"text={packs}",
    ]
    init = add(f"init {at.init} {arm} {seed}", "clp", [f"name={at.init}", *own, *models, *changes[INIT]], needs)
    trained = [f"name={at.train}", *own, *([f"variant={at.variant}"] if at.variant else [])]
    where = f"{at.train} {at.variant}" if at.variant else at.train
    add(f"train {where} {arm} {seed}", "train", [*trained, *changes[TRAIN]], [init])


def _check(ablation: AblationConfig, seeds: list[int]) -> None:
    if ablation.own not in OWN:
        raise UserError(f"ablation.own={ablation.own} is no stage", f"expected: {', '.join(OWN)}")
    missing = [key for key in ("name", "arms", "variants") if not getattr(ablation, key)]
    if missing or not seeds:
        raise UserError(
            f"the ablation has no {missing[0] if missing else 'seeds'}", "choose one: make ablate ABLATION=vocabulary"
        )
