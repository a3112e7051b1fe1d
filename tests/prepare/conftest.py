"""Tiny wheels in a cache folder, and the jobs that read them."""

from __future__ import annotations

import gzip
import json
import random
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from clp_transfer.files import sha256_file
from clp_transfer.prepare.job import (
    CorpusConfig,
    DataConfig,
    DomainTaskConfig,
    PackConfig,
    PrepareJob,
    TokenizerConfig,
    WheelConfig,
)

GERMAN = "der Fluss über die Brücke große Straße Häuser nördlich gelegene Stadt mit vielen Bäumen und Wegen"
ENGLISH = "the river under a bridge of large streets houses in northern town with many trees and several ways"
LABELS = ["Medizin", "Musik", "Sport"]

MakeWheel = Callable[..., WheelConfig]


def sentences(words: str, count: int, seed: int) -> list[str]:
    """Distinct pseudo-sentences of the words."""
    draw = random.Random(seed)
    return [f"{' '.join(draw.choices(words.split(), k=draw.randint(5, 16)))} {number}" for number in range(count)]


def dictionary(plain: int = 300, labelled: int = 40) -> bytes:
    """Dictionary lines, gzipped: `plain` entries without a label, `labelled` with one, four in five of LABELS."""
    lines = [f"Wort{i}\t{text} | auch: {text[:20]}" for i, text in enumerate(sentences(GERMAN, plain, 1))]
    names = [*LABELS, "Botanik, speziell Blütenbau", "Sport"]
    marked = sentences(GERMAN, labelled, 2)
    lines += [f"Fach{i}\t{names[i % len(names)]}: {text}" for i, text in enumerate(marked)]
    return gzip.compress("".join(f"{line}\n" for line in lines).encode(), mtime=0)


def leads(count: int = 200) -> bytes:
    """Wikipedia leads as the wheel holds them."""
    texts = sentences(ENGLISH, count, 3)
    return json.dumps({f"T{i}": {"title": f"T{i}", "extract": t} for i, t in enumerate(texts)}).encode()


@pytest.fixture
def make_wheel(tmp_path: Path) -> MakeWheel:
    """Put a wheel of that member, and more, into the cache folder and give its config, hash included."""

    def make(package: str, member: str, content: bytes, more: dict[str, bytes] | None = None) -> WheelConfig:
        path = tmp_path / "cache" / f"{package.replace('-', '_')}-1.0-py3-none-any.whl"
        path.parent.mkdir(exist_ok=True)
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in {member: content, **(more or {})}.items():
                archive.writestr(zipfile.ZipInfo(name), data)
        return WheelConfig(package, "1.0", sha256_file(path), member, "CC0-1.0")

    return make


@pytest.fixture
def job(tmp_path: Path, make_wheel: MakeWheel) -> PrepareJob:
    """A complete small job: two corpora, two tokenizers, three packs, the labelled task."""
    data = DataConfig(
        corpora={
            "en": CorpusConfig("wikipedia_leads", make_wheel("leads-en", "data/leads.json", leads()), 2_000),
            "de": CorpusConfig("wiktionary", make_wheel("words-de", "data/glosses.txt.gz", dictionary()), 3_000),
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
