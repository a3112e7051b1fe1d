"""The config: every experiment composes for every stage; mistakes are refused fast, before torch is imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir

from clp_transfer.cli.schema import register, to_config
from clp_transfer.clp.job import MethodConfig
from clp_transfer.config import jobs
from clp_transfer.config.folders import init_folder, run_folder
from clp_transfer.config.schema import Config
from clp_transfer.errors import UserError
from clp_transfer.pipeline.steps import expand
from clp_transfer.train.job import OptimConfig

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "configs"
STAGES = ["prepare", "clp", "train", "evaluate", "report", "reproduce", "tune", "plan"]
EXPERIMENTS = sorted(p.stem for p in (CONFIGS / "experiment").glob("*.yaml"))


def composed(stage: str, *overrides: str) -> Config:
    register()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return to_config(compose(stage, overrides=list(overrides)))


def command(script: str, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, str(ROOT / script), *arguments], cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_composes(experiment: str) -> None:
    """The stages' own are composed where the chains are run: tests/experiments."""
    config = composed("reproduce", f"experiment={experiment}")
    assert config.name == experiment
    assert expand(config)[-1].stage == "report"


def test_every_stage_composes_to_the_same_config() -> None:
    configs = [composed(stage, "experiment=mini") for stage in STAGES]
    assert all(config == configs[0] for config in configs)


@pytest.mark.parametrize("path", sorted((CONFIGS / "experiment").glob("*.yaml")), ids=lambda p: p.stem)
def test_an_experiment_opens_with_its_command(path: Path) -> None:
    """Hydra takes its own header only from the very first line; the command comes right after it."""
    first, second = path.read_text().splitlines()[:2]
    assert (first, second) == ("# @package _global_", f"# make reproduce EXPERIMENT={path.stem}")


@pytest.mark.parametrize(
    "group", ["method", "deepspeed", "architecture", "run", "data", "pipeline", "+vocabulary", "+scale"]
)
def test_every_group_file_composes(group: str) -> None:
    for path in (CONFIGS / group.lstrip("+")).glob("*.yaml"):
        config = composed("train", f"{group}={path.stem}", "experiment=mini", "helper=some/model")
        if group == "method":
            assert config.method.name == path.stem


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("budget.tokns=1", "tokns"),
        ("budget.tokens=many", "many"),
        ("experiment=nosuch", "nosuch"),
        ("method=nosuch", "nosuch"),
        ("seeds=3", "seeds"),
        ("validation.points=0", "validation.points=0 makes no sense"),
        ("optim.betas=[0.9]", "optim.betas"),
        ("optim.schedule=cosin", "optim.schedule=cosin"),
        ("phases.schedule=wsd", "phases.schedule=wsd"),
        ("phases.denominator=n", "phases.denominator=n"),
        ("train.precision=fp8", "train.precision=fp8"),
        ("train.attention=fast", "train.attention=fast"),
        ("train.on_bad_loss=ignore", "train.on_bad_loss=ignore"),
        ("train.spike=0.5", "train.spike=0.5"),
        ("deepspeed.stage=4", "deepspeed.stage=4 makes no sense"),
        ("wandb.mode=on", "wandb.mode=on"),
        ("name=a/b", "a folder's name"),
    ],
)
def test_mistakes_fail_fast_on_one_screen(override: str, message: str) -> None:
    done = command("train.py", override)
    assert done.returncode == 2
    assert message in done.stderr and "What to do" in done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert len(done.stderr.splitlines()) < 25


@pytest.mark.parametrize(
    "script", ["prepare.py", "clp.py", "train.py", "evaluate.py", "scripts/reproduce.py", "scripts/plan.py"]
)
def test_help_and_cfg_import_nothing_heavy(script: str) -> None:
    """Run the script with an import hook that refuses torch and transformers."""
    guard = (
        "import sys, runpy\n"
        "class Refuse:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        assert name.partition('.')[0] not in ('torch', 'transformers', 'datasets', 'wandb'), name\n"
        "sys.meta_path.insert(0, Refuse())\n"
        "sys.argv = sys.argv[1:]\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    for flags in (["--help"], ["--cfg", "job", "experiment=mini"], ["budget.tokns=1"]):
        done = subprocess.run([sys.executable, "-c", guard, str(ROOT / script), *flags], capture_output=True, text=True)
        assert "AssertionError" not in done.stderr, done.stderr
        assert ("tokns" in done.stderr) if flags[0].startswith("budget") else done.returncode == 0


def test_the_best_rate_of_the_table_is_used() -> None:
    table = {"clp": {1e-3: 6.2, 2e-3: 6.0, 4e-3: 6.1}}
    assert jobs.peak_rate(Config(method=MethodConfig("clp"), tuning=table)) == 2e-3
    assert jobs.peak_rate(Config(method=MethodConfig("clp"), tuning=table, optim=OptimConfig(lr=7e-4))) == 7e-4
    with pytest.raises(UserError, match="ridge"):
        jobs.peak_rate(Config(method=MethodConfig("ridge"), tuning=table))


def test_the_miniature_tunes_all_arms_alike() -> None:
    """Equal tuning: the same values tried for every arm that is reported."""
    config = composed("train", "experiment=mini")
    assert set(config.tuning) == set(config.arms)
    assert {tuple(row) for row in config.tuning.values()} == {tuple(config.tuning_rates)}


def test_names_become_folders() -> None:
    config = composed("train", "experiment=mini", "method=ridge", "seed=3")
    assert run_folder(config).root == Path("outputs/mini/runs/ridge-seed3")
    assert init_folder(config) == Path("outputs/mini/init/ridge-seed3")
    config = composed("evaluate", "experiment=mini", "model=smollm2")
    assert jobs.evaluate_job(config).model == Path("outputs/mini/data/models/smollm2")
    with pytest.raises(UserError, match="no model folder nosuch"):
        jobs.train_job(composed("train", "experiment=mini", "model=nosuch"))


def test_what_is_evaluated() -> None:
    """Any model by folder or hub id, on named texts or the experiment's pack; what nothing would read is refused."""
    own = jobs.evaluate_job(composed("evaluate", "experiment=mini", "method=ridge"))
    assert (own.out, own.task) == (Path("outputs/mini/evaluations/ridge-seed1"), Path(own.task))
    texts = "texts={news: a.jsonl, novels: [b.txt, c.txt.xz]}"
    other = jobs.evaluate_job(composed("evaluate", "model=owner/some-model", texts))
    assert (other.model, other.out) == ("owner/some-model", Path("outputs/default/evaluations/owner--some-model"))
    assert other.texts == {"news": [Path("a.jsonl")], "novels": [Path("b.txt"), Path("c.txt.xz")]}
    assert other.task is None and other.validation_pack is None
    for key in (
        "data_dir=x",
        "evaluate.fewshot=1",
        "evaluate.revision=v1",
        "texts={a: 3}",
        "texts=a.jsonl",
        "evaluate.bootstrap=-1",
    ):
        with pytest.raises(UserError):
            jobs.evaluate_job(composed("evaluate", "experiment=mini", key))


def test_models_of_a_transfer() -> None:
    """Names of the experiment's data, folders and hub ids; the tokenizer is a named helper's own."""
    own = jobs.transfer_job(composed("clp", "experiment=mini"))
    data = Path("outputs/mini/data")
    assert (own.source, own.helpers) == (
        Path("outputs/mini/runs/source/model"),
        [Path("outputs/mini/runs/helper/model")],
    )
    assert (own.tokenizer, own.overwrite) == (data / "tokenizers/target", True)
    assert jobs.transfer_job(composed("clp", "source=smollm2")).source == Path("outputs/default/data/models/smollm2")
    given = jobs.transfer_job(composed("clp", "source=some/id", "helper=[a,b]", "out=there"))
    assert (given.source, given.helpers, given.tokenizer) == ("some/id", ["a", "b"], None)
    assert (given.out, given.overwrite) == (Path.cwd() / "there", False)


@pytest.mark.parametrize("wrong", ["helper={a: b}", "helper=[1]", "method.weighting=typo", "method.folds=1"])
def test_wrong_transfer_values_are_refused(wrong: str) -> None:
    with pytest.raises(UserError, match=wrong.partition("=")[0]):
        composed("clp", wrong)


def test_group_files_are_small_and_say_what_they_are() -> None:
    for path in CONFIGS.rglob("*.yaml"):
        text = path.read_text()
        assert text.startswith("#"), f"{path} does not open with a comment"
        assert len(text.splitlines()) < 60 and yaml.safe_load(text) is not None, path
