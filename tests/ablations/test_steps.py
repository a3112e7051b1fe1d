"""An ablation's steps: what variants share is made once, and each variant's overrides reach the stages it owns."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from clp_transfer.ablations.job import AblationConfig
from clp_transfer.ablations.steps import cells, steps
from clp_transfer.cli.schema import register, to_config
from clp_transfer.cli.stages import JOBS
from clp_transfer.config.schema import Config
from clp_transfer.errors import UserError
from clp_transfer.pipeline.steps import Step

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
ABLATIONS = sorted(path.stem for path in (CONFIGS / "ablation").glob("*.yaml"))
OUT = Path("out")


def ablation(own: str, **settings: object) -> AblationConfig:
    variants = {"plain": [], "x": ["changed=1"]}
    return AblationConfig(name="q", own=own, arms=["mean", "clp"], variants=variants, **settings)  # type: ignore[arg-type]


def made(own: str, seeds: list[int] | None = None) -> dict[str, Step]:
    return {step.name: step for step in steps(ablation(own), "base", seeds or [1], OUT)}


def with_change(found: dict[str, Step]) -> set[str]:
    return {name for name, step in found.items() if "changed=1" in step.overrides}


def test_every_stage_from_the_owned_one_on_is_made_anew() -> None:
    assert with_change(made("data")) == {
        "data base-q-x", "helper base-q-x 1",
        *(f"{stage} base-q-x {arm} 1" for stage in ("init", "train") for arm in ("scratch", "mean", "clp")),
    }  # fmt: skip
    assert with_change(made("helper")) == {"helper base-q-x 1"}
    assert with_change(made("source")) == {"source base-q-x"}
    assert with_change(made("init")) == {"init base-q-x mean 1", "init base-q-x clp 1"}
    assert with_change(made("train")) == {"train base q-x mean 1", "train base q-x clp 1"}


def test_what_variants_share_is_one_step() -> None:
    found = made("helper", [1, 2])
    assert sum(step.stage == "prepare" for step in found.values()) == 1
    assert [name for name in found if name.startswith("helper")] == [
        "helper base 1", "helper base 2", "helper base-q-x 1", "helper base-q-x 2",
    ]  # fmt: skip
    assert (
        "source base" in found["init base-q-x clp 2"].needs
        and "helper base-q-x 2" in found["init base-q-x clp 2"].needs
    )
    assert "helper='out/base-q-x/runs/helper,seed2/model'" in found["init base-q-x clp 2"].overrides


def test_scratch_is_trained_where_the_data_are_and_savings_count_against_it() -> None:
    for own, home in (("data", "base-q-x"), ("helper", "base"), ("init", "base"), ("train", "base")):
        last = cells(ablation(own), "base", [1], OUT)[-1]
        assert last.reference == OUT / home / "runs" / "scratch-seed1"
        assert any(step.stage == "train" and "method=scratch" in step.overrides for step in made(own).values())


def test_a_variant_of_training_keeps_its_start_and_has_a_run_of_its_own() -> None:
    last = cells(ablation("train"), "base", [1], OUT)[-1]
    assert last.run == OUT / "base" / "runs" / "clp-seed1,q-x"
    assert last.init == OUT / "base" / "init" / "clp-seed1"


def test_an_ablation_that_names_no_stage_or_no_variant_is_refused() -> None:
    with pytest.raises(UserError, match=r"ablation\.own=dta"):
        steps(ablation("dta"), "base", [1], OUT)
    with pytest.raises(UserError, match="no variants"):
        steps(AblationConfig(name="q", arms=["clp"]), "base", [1], OUT)


def composed(stage: str, overrides: list[str]) -> Config:
    register()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return to_config(compose(stage, overrides=overrides))


@pytest.mark.parametrize("name", [n for n in ABLATIONS if not n.startswith("german")])
def test_every_ablation_composes_and_writes_where_its_table_looks(name: str) -> None:
    """Each step's config is made into its job; the runs are where `cells` says, no two steps share one."""
    overrides = ["experiment=mini-ablations", f"ablation={name}"]
    config = composed("ablate", overrides)
    outputs = Path(config.paths.outputs)
    written = []
    for step in steps(config.ablation, config.name, [1], outputs):
        job = JOBS[step.stage](composed(step.stage, [*overrides, *step.overrides]))
        written.append(job.out)
    assert len(set(written)) == len(written)
    for cell in cells(config.ablation, config.name, [1], outputs):
        assert {cell.run, cell.reference, cell.helper} <= set(written)
        assert cell.init.absolute() in {path.absolute() for path in written}
