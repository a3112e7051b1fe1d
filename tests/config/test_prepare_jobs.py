"""Texts that are named are read, or refused: never others in their place."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from clp_transfer.cli.schema import register, to_config
from clp_transfer.config.jobs import prepare_job
from clp_transfer.config.schema import Config
from clp_transfer.errors import UserError
from clp_transfer.prepare.job import SourceConfig

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def composed(*overrides: str) -> Config:
    register()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return to_config(compose("prepare", overrides=["name=mine", *overrides]))


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["files=[a.txt]"], r"files=a\.txt: no source of the data reads this(.|\n)*data=files"),
        (["data=hub", "dataset=a/b", "files=[a.txt,b.txt]"], r"files=a\.txt, b\.txt: no source"),
        (["dataset=a/b"], r"dataset=a/b: no source of the data reads this(.|\n)*data=hub"),
        (["data=files", "files=[a.txt]", "dataset=a/b"], "dataset=a/b: no source"),
        (["experiment=mini", "dataset=a/b"], "dataset=a/b: no source"),
    ],
)
def test_texts_that_no_source_reads_are_refused(overrides: list[str], told: str) -> None:
    with pytest.raises(UserError, match=told):
        prepare_job(composed(*overrides))


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["data=files", "files=[a.txt,b.jsonl]"],
        ["data=hub", "dataset=a/b"],
        ["data=files", "files=[a.txt]", "data.corpora.target.sources.files.files=[b.txt,a.txt]"],
    ],
)
def test_texts_that_a_source_reads_are_prepared(overrides: list[str]) -> None:
    job = prepare_job(composed(*overrides))
    corpora = job.data.corpora.values()
    assert any(source.files or source.hub or source.wheel for corpus in corpora for source in corpus.sources.values())


def test_held_out_texts_are_read_too() -> None:
    config = composed("files=[a.txt]")
    (corpus, *_) = config.data.corpora.values()
    corpus.validation = SourceConfig(files=["a.txt"])
    assert prepare_job(config).data is config.data
