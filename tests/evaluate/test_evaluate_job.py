"""What a command line makes of `model=`, texts and tasks: where the result lies, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from clp_transfer.cli.schema import register, to_config
from clp_transfer.config.evaluate_jobs import evaluate_job
from clp_transfer.errors import UserError
from clp_transfer.evaluate.job import EvaluateJob

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


@pytest.fixture
def job():
    """The job of a command line."""

    def made(*overrides: str) -> EvaluateJob:
        register()
        with initialize_config_dir(str(CONFIGS), version_base="1.3"):
            return evaluate_job(to_config(compose("evaluate", overrides=list(overrides))))

    return made


def test_models_of_the_same_last_name_lie_apart(job, tmp_path, monkeypatch) -> None:
    folders = [tmp_path / name for name in ("one/runs/ridge-seed1/model", "two/runs/ridge-seed1/model", "one/bert")]
    for folder in folders:
        folder.mkdir(parents=True)
    names = [job(f"model={folder}", "texts={a: a.txt}").out.name for folder in folders]
    assert [name.rpartition("-")[0] for name in names] == ["ridge-seed1", "ridge-seed1", "bert"]
    assert len(set(names)) == 3
    monkeypatch.chdir(tmp_path)
    assert job("model=one/bert", "texts={a: a.txt}").out.name == names[2]
    hub = {job(f"model={name}", "texts={a: a.txt}").out.name for name in ("one/some-model", "two/some-model", "gpt2")}
    assert hub == {"one--some-model", "two--some-model", "gpt2"}


def test_members_of_a_sweep_lie_apart(job, tmp_path) -> None:
    for model in ("owner/model", str(tmp_path)):
        names = {
            job(f"model={model}", f"variant='{variant}'", "texts={a: a.txt}").out.name
            for variant in ("", "evaluate.windows=rolling", "evaluate.windows=stream")
        }
        assert len(names) == 3
    assert job("model=owner/model", "variant=x", "texts={a: a.txt}").out.name == "owner--model,x"


@pytest.mark.parametrize(
    "command",
    [
        "model=owner/model limit=5 texts={a:a.txt}",
        "model=owner/model data_dir=x texts={a:a.txt}",
        "model=owner/model data_dir=x tasks=[xnli_de]",
        "model=owner/model data_dir=x tasks=[clp_german_modern]",
    ],
)
def test_what_nothing_reads_is_refused(job, command) -> None:
    with pytest.raises(UserError, match=r"(is|are) set|none of tasks|no tasks") as told:
        job(*command.split())
    assert "tasks=[clp_xnli_de]" in told.value.remedy


def test_a_text_called_as_the_experiments_own_is_refused_where_that_is_measured_too(job) -> None:
    """`perplexity` would else be that text's, and the final values not of the curves' text."""
    with pytest.raises(
        UserError, match=r"texts\.validation has the name of the experiment's own held-out text"
    ) as told:
        job("experiment=mini", "texts={validation: news.jsonl, novels: novels.txt}")
    assert "another name" in told.value.remedy
    other = job("experiment=mini", "model=owner/model", "texts={validation: news.jsonl}")
    assert list(other.texts) == ["validation"] and other.validation_pack is None


@pytest.mark.parametrize(
    "command",
    ["experiment=mini limit=5", "data_dir=x tasks=[xnli_de,clp_gnad10] limit=5", "data_dir=x tasks=[clp_german]"],
)
def test_what_a_task_reads_is_taken(job, command) -> None:
    assert job(*command.split()).is_own
