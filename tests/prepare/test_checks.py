"""A config that cannot be or contradicts itself is told before any file is looked for."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import pytest

from clp_transfer.errors import UserError
from clp_transfer.prepare import sources
from clp_transfer.prepare.bpe import PRE_TOKENIZERS
from clp_transfer.prepare.checks import check
from clp_transfer.prepare.encoders import choose
from clp_transfer.prepare.job import CorpusConfig, HubConfig, PrepareJob, SourceConfig, TokenizerConfig, WheelConfig

Change = Callable[[PrepareJob], object]


def refused(job: PrepareJob, monkeypatch: pytest.MonkeyPatch, problem: str) -> UserError:
    """The error of a plan that must be refused without a look at any file."""
    monkeypatch.setattr(sources, "locate", lambda *_: pytest.fail("looked for files"))
    with pytest.raises(UserError, match=problem) as error:
        job.plan()
    return error.value


@pytest.mark.parametrize(
    ("change", "problem", "remedy"),
    [
        (lambda j: setattr(j.data, "encoder", "fast"), "encoder 'fast'", "fastokens"),
        (lambda j: setattr(j.data.tokenizers["target"], "like", "source"), "vocab_size=340 and .*'source'", "null"),
        (lambda j: setattr(j.data.tokenizers["target"], "vocab_size", 256), "256 is less than the 257", "257"),
        (lambda j: setattr(j.data.tokenizers["target"], "sample_bytes", 0), "sample_bytes=0", "more than 0"),
        (
            lambda j: j.data.tokenizers.update(x=TokenizerConfig(model="m", path="there")),
            "the model 'm' and the one at there",
            "not both",
        ),
        (lambda j: j.data.models.update(m=WheelConfig("p", "1", "ab", "x.gguf")), "model m has sha256='ab'", "sha256"),
        (lambda j: j.data.models.update(m=WheelConfig("p", "1", "a" * 64)), "model m names no member", "member"),
        (
            lambda j: j.data.corpora["de"].sources.update(validation=SourceConfig(files=["a.txt"])),
            "corpus de has a source named 'validation'",
            "another name",
        ),
        (
            lambda j: vars(j.data.corpora["de"]).update(subsample_size_mb=1.0, train_bytes=5),
            "subsample_size_mb=1.0 and train_bytes=5 both",
            "null",
        ),
        (
            lambda j: vars(j.data.corpora["de"]).update(group="(", split="shuffled"),
            r"group=\( is no pattern",
            "re module",
        ),
        (
            lambda j: vars(j.data.corpora["de"]).update(group="^b", split="in_order", train_bytes=9),
            "group needs split=shuffled",
            "split",
        ),
        (
            lambda j: vars(j.data.corpora["de"]).update(subsample_size_mb=1.5),
            "validation_bytes=3000 and subsample_size_mb=1.5, .* both size the validation split",
            "train_bytes",
        ),
        (
            lambda j: vars(j.data.corpora["de"]).update(validation=SourceConfig(files=["v.txt"])),
            "validation_bytes=3000 of the sources' texts .* under `validation`",
            "null",
        ),
        *(
            (
                lambda j, reader=reader: j.data.corpora["de"].sources.update(
                    x=SourceConfig(reader, files=["x"], drop={"kind": ["a"]})
                ),
                f"drops documents by kind, and the reader {reader} knows no fields",
                "jsonl, parquet, gc4",
            )
            for reader in ("text", "lines", "wiktionary", "wikipedia_leads")
        ),
        (
            lambda j: j.data.corpora["de"].sources.update(
                x=SourceConfig(hub=HubConfig("a/b", config="de", files=["*.gz"]))
            ),
            "corpus de: hub.config=de say",
            "null",
        ),
        (
            lambda j: vars(j.data.corpora["de"]).update(
                validation_bytes=None,
                validation=SourceConfig(hub=HubConfig("a/b", config="de", split="test", files=["*.gz"])),
            ),
            "hub.config=de and hub.split=test say",
            "hub.files",
        ),
        (lambda j: setattr(j.cluster, "name", "lsf"), "cluster.name 'lsf'", "local, slurm"),
        (lambda j: setattr(j.cluster, "workers", 0), "cluster: workers=0", "more than 0"),
        (lambda j: setattr(j.cluster, "memory_gb_per_cpu", 0), "memory_gb_per_cpu=0", "more than 0"),
    ],
)
def test_told_before_any_file_is_looked_for(job: PrepareJob, monkeypatch, change: Change, problem: str, remedy: str):
    change(job)
    assert remedy in refused(job, monkeypatch, problem).remedy


def test_a_filter_that_there_is_not(job: PrepareJob, monkeypatch):
    pytest.importorskip("datatrove")
    job.data.corpora["de"].clean.filters = ["gopher"]
    error = refused(job, monkeypatch, "corpus de names the clean.filters 'gopher'")
    assert "gopher_quality, gopher_repetition" in error.remedy


@pytest.mark.parametrize("clean", [{"near": True}, {"filters": ["c4_quality"]}])
def test_a_missing_datatrove(job: PrepareJob, monkeypatch, clean: dict[str, object]):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "datatrove" else find(name))
    vars(job.data.corpora["de"].clean).update(clean)
    assert "clp-transfer[clean]" in refused(job, monkeypatch, "datatrove is not installed").remedy


def test_nulls_are_planned_as_what_they_stand_for(job: PrepareJob, monkeypatch):
    """Data that were made when the numbers and names were the defaults themselves stay valid."""
    monkeypatch.setattr(PrepareJob, "files", lambda *_: ([], []))
    job.data.corpora["de"] = CorpusConfig({"x": SourceConfig(hub=HubConfig("a/b"))})
    corpus = job.plan().settings["data"]["corpora"]["de"]
    assert corpus["validation_bytes"] == 300_000 and "group" not in corpus
    hub = {"dataset": "a/b", "config": "default", "split": "train", "files": [], "revision": None}
    assert corpus["sources"]["x"]["hub"] == hub
    before = job.plan().key
    job.data.corpora["de"] = CorpusConfig(
        {"x": SourceConfig(hub=HubConfig("a/b", "default", "train"))}, validation_bytes=300_000
    )
    assert job.plan().key == before


def test_all_that_there_is_passes(job: PrepareJob):
    for encoder in choose.WANTED:
        for pre_tokenizer in PRE_TOKENIZERS:
            job.data.encoder, job.data.tokenizers["target"].pre_tokenizer = encoder, pre_tokenizer
            check(job.data)
