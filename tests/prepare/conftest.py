"""Tiny wheels in a cache folder, and the jobs that read them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from tiny.wheels import LABELS, dictionary, leads, write_wheel

from clp_transfer.prepare.job import (
    CorpusConfig,
    DataConfig,
    DomainTaskConfig,
    PackConfig,
    PrepareJob,
    SourceConfig,
    TokenizerConfig,
    WheelConfig,
)

MakeWheel = Callable[..., WheelConfig]


@pytest.fixture
def make_wheel(tmp_path: Path) -> MakeWheel:
    """Put a wheel of a member into the test's cache folder and give its config, hash included."""
    return partial(write_wheel, tmp_path / "cache")


def corpus(reader: str, wheel: WheelConfig, validation_bytes: int) -> CorpusConfig:
    """A corpus of one wheel."""
    return CorpusConfig({"wheel": SourceConfig(reader, wheel)}, validation_bytes=validation_bytes)


@pytest.fixture
def job(tmp_path: Path, make_wheel: MakeWheel) -> PrepareJob:
    """A complete small job: two corpora, two tokenizers, three packs, the labelled task."""
    data = DataConfig(
        corpora={
            "en": corpus("wikipedia_leads", make_wheel("leads-en", "data/leads.json", leads()), 2_000),
            "de": corpus("wiktionary", make_wheel("words-de", "data/glosses.txt.gz", dictionary()), 3_000),
        },
        tokenizers={"source": TokenizerConfig("en", 320), "target": TokenizerConfig("de", 340)},
        packs={
            "en-source": PackConfig("en", "source"),
            "de-target": PackConfig("de", "target"),
            "de-source": PackConfig("de", "source", ["validation"]),
        },
        domain_task=DomainTaskConfig("de", LABELS, 20),
    )
    return PrepareJob(data, tmp_path / "data", tmp_path / "cache", seed=7)
