"""The German experiment: it composes, its arms are comparable, its ablations write where their tables look."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from transformers import AutoModelForCausalLM

from clp_transfer.ablations.steps import cells, steps
from clp_transfer.cli.schema import register, to_config
from clp_transfer.cli.stages import JOBS
from clp_transfer.config import jobs
from clp_transfer.config.schema import Config
from clp_transfer.evaluate.task_names import expand as expand_tasks
from clp_transfer.pipeline.steps import Step, expand
from clp_transfer.prepare.checks import check
from clp_transfer.train.architecture import config_of

ROOT = Path(__file__).resolve().parents[2]
NAME = "smollm2-135m-german"
THREE = {"scratch", "clp", "calibrate"}


def composed(stage: str, *overrides: str) -> Config:
    register()
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        return to_config(compose(stage, overrides=[f"experiment={NAME}", *overrides]))


def test_the_arms_differ_in_what_they_are_and_in_nothing_else() -> None:
    config = composed("reproduce")
    check(config.data)
    assert len(expand_tasks(config.tasks)) == len(config.tasks)
    found = [step for step in expand(config) if step.name.startswith("train ")]
    assert len(found) == 3 * len(THREE) + len(config.arms) - len(THREE)
    first = [_rated(composed("train", *step.overrides)) for step in found if "seed=1" in step.overrides]
    trained = {job.job_type: job for job in map(jobs.train_job, first)}
    assert {arm: job.train_pack.parent.name for arm, job in trained.items()} == {
        arm: "own" if arm == "own" else "target" for arm in config.arms
    }
    for job in trained.values():
        assert (job.budget, job.validation, job.phases) == (config.budget, config.validation, config.phases)
    assert config.budget.tokens == 640 * config.budget.batch_tokens
    assert {arm for arm in config.arms if arm not in config.one_seed} == THREE


def test_every_other_step_is_a_job() -> None:
    found = [s for s in expand(composed("reproduce", "arms=[own]", "seeds=[2]")) if not s.name.startswith("train ")]
    outs = {step.name: JOBS[step.stage](composed(step.stage, *step.overrides)).out for step in found}
    assert list(outs) == ["data", "helper 2", "init own 2", "evaluate own 2", "source", "step0 2", "report"]
    assert len(set(outs.values())) == len(outs)


def _rated(config: Config) -> Config:
    config.optim.lr = config.optim.lr or 1e-3
    return config


def test_every_seed_has_a_helper_and_own_has_none() -> None:
    config = composed("train", "run=german-helper", "seed=2")
    helper = jobs.train_job(config).out / "model"
    for arm in ("clp", "calibrate", "scratch"):
        job = jobs.transfer_job(composed("clp", f"method={arm}", "seed=2"))
        assert (job.helpers, job.tokenizer) == ([str(helper)], None)
    own = jobs.transfer_job(composed("clp", "method=own", "seed=2"))
    assert own.helpers == []
    assert Path(str(own.tokenizer)).name == "own"


def test_named_texts_stand_beside_the_held_out_one() -> None:
    own = jobs.evaluate_job(composed("evaluate", "method=clp"))
    assert set(own.texts) == {"news", "english"} and own.validation_pack is not None
    before = jobs.evaluate_job(composed("evaluate", "model=smollm2"))
    assert set(before.texts) == {"news", "english"} and before.validation_pack is None
    first = jobs.evaluate_job(composed("evaluate", "step0=smollm2", "variant=seed${seed}", "seed=2"))
    assert first.out.name == "smollm2,seed2" and first.own_pack.parent.name == "own"


def test_sessions_and_novels_are_held_out_whole() -> None:
    group = re.compile(composed("prepare").data.corpora["target"].group)
    ids = ["bundestag-19100100", "bundestag-1910000100", "bundestag-2018103200", "DEU001-0", "DEU1-12"]
    found = [match[0] if (match := group.match(one)) else None for one in ids]
    assert found == ["bundestag-191", "bundestag-19100", "bundestag-20181", "DEU001", "DEU1"]


@pytest.mark.parametrize(("name", "millions"), [("llama-d128x4", 2.9), ("llama-d256x8", 10.2), ("llama-d512x7", 30.5)])
def test_the_helpers_have_the_sizes_that_they_are_called_by(name: str, millions: float) -> None:
    with torch.device("meta"):
        shape = composed("train", f"architecture={name}").architecture
        model = AutoModelForCausalLM.from_config(config_of(shape, {"vocab_size": 16_384}))
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(millions * 1e6, abs=0.05e6)
    assert f"# {millions} M parameters" in (ROOT / f"configs/architecture/{name}.yaml").read_text()


def test_what_the_file_says_of_its_cost_is_what_it_runs() -> None:
    config, text = composed("reproduce"), (ROOT / f"configs/experiment/{NAME}.yaml").read_text()
    runs = sum(step.name.startswith("train ") for step in expand(config))
    targets = runs * config.budget.tokens
    rates = len(config.arms) * len(config.tuning_rates) * config.tuning_tokens
    varied = [step for name in ABLATIONS for step in _new_runs(name, expand(config))]
    assert f"{runs} runs × 41.9 M = {targets / 1e6:.0f} M" in text and f"= {rates / 1e6:.0f} M" in text
    assert f"ablations {len(varied)} × 41.9 M = {len(varied) * config.budget.tokens / 1e6:.0f} M" in text
    total = targets + rates + len(varied) * config.budget.tokens
    assert f"{total / 1e9:.2f} B, {total / 400_000 / 60:.0f} min" in text


ABLATIONS = ["german-embedding-tuning", "german-helper-size", "german-vocabulary"]


def _of(name: str) -> tuple[Config, list[Step]]:
    config = composed("ablate", f"ablation={name}")
    found = steps(
        config.ablation,
        config.name,
        [1],
        Path(config.paths.outputs),
        source=config.source,
        helper_file=config.helper_run,
    )
    return config, found


def _new_runs(name: str, pipeline: list[Step]) -> list[Step]:
    """The target runs of an ablation that the experiment itself does not have."""
    own = {tuple(step.overrides) for step in pipeline}
    runs = [step for step in _of(name)[1] if step.name.startswith("train ")]
    plain = {f"name={NAME}", f"data_of={NAME}"}
    return [step for step in runs if tuple(one for one in step.overrides if one not in plain) not in own]


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_starts_from_the_source_that_is_given(name: str) -> None:
    config, found = _of(name)
    assert not any("run=source" in step.overrides or "source=" in " ".join(step.overrides) for step in found)
    assert any("run=german-helper" in step.overrides for step in found)
    outputs, written = Path(config.paths.outputs), []
    for step in found:
        one = composed(step.stage, f"ablation={name}", *step.overrides)
        job = JOBS[step.stage](_rated(one))
        written.append(job.out)
        if step.stage == "train":
            assert one.tuning_of == NAME  # so that every variant trains at the arm's own rate
    assert len(set(written)) == len(written)
    for cell in cells(config.ablation, config.name, [1], outputs):
        assert {cell.run, cell.reference, cell.helper} <= set(written)
        assert cell.init.absolute() in {path.absolute() for path in written}


def test_without_tokens_of_its_own_the_first_phase_has_the_arms_rate() -> None:
    one = composed(
        "train", "method=clp", "phases=embeddings_first", "phases.share=0.1", "phases.lr=null", "optim.lr=3e-4"
    )
    job = jobs.train_job(one)
    assert job.phases.share == 0.1 and job.phases.lr is None and job.optim.lr == 3e-4
