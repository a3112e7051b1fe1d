"""Steps from the config: one for each combination, matched to the ones it needs."""

from __future__ import annotations

import pytest

from clp_transfer.config.schema import Config, PipelineConfig, StepConfig
from clp_transfer.errors import UserError
from clp_transfer.pipeline.steps import expand


def config(steps: dict[str, StepConfig]) -> Config:
    return Config(arms=["clp", "ridge"], seeds=[1, 2], pipeline=PipelineConfig(steps=steps))


def test_repeated_steps_are_matched_value_by_value() -> None:
    both = {"method": "arms", "seed": "seeds"}
    steps = expand(
        config(
            {
                "data": StepConfig("prepare"),
                "init": StepConfig("clp", for_each=both, needs=["data"]),
                "train": StepConfig("train", ["x=1"], for_each=both, needs=["init"]),
                "report": StepConfig("report", needs=["train"]),
            }
        )
    )
    by_name = {step.name: step for step in steps}
    assert [s.name for s in steps[:3]] == ["data", "init clp 1", "init clp 2"]
    assert by_name["train ridge 2"].needs == ["init ridge 2"]
    assert by_name["train ridge 2"].overrides == ["x=1", "method=ridge", "seed=2"]
    assert by_name["report"].needs == ["train clp 1", "train clp 2", "train ridge 1", "train ridge 2"]


def test_a_step_may_not_need_what_comes_later() -> None:
    with pytest.raises(UserError, match="needs b"):
        expand(config({"a": StepConfig("train", needs=["b"]), "b": StepConfig("train")}))


def test_for_each_needs_a_list() -> None:
    with pytest.raises(UserError, match="name is not a list"):
        expand(config({"a": StepConfig("train", for_each={"method": "name"})}))


def test_an_arm_of_one_seed_has_the_first_one_only() -> None:
    both = {"method": "arms", "seed": "seeds"}
    found = config(
        {"helper": StepConfig("train", for_each={"seed": "seeds"}), "train": StepConfig("train", for_each=both)}
    )
    found.one_seed = ["ridge"]
    names = [step.name for step in expand(found)]
    assert names == ["helper 1", "helper 2", "train clp 1", "train clp 2", "train ridge 1"]
    found.seeds = [2, 1]
    assert [name for name in (step.name for step in expand(found)) if "ridge" in name] == ["train ridge 2"]
