"""A small corpus with planted near-duplicates, in three chunks."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import pytest

from clp_transfer.prepare.chunks import chunk_path, write_chunk

STEMS = ["haus", "wald", "berg", "tal", "fluss", "stadt", "weg", "licht", "straße", "tür", "öl", "zeit", "wort", "brot"]


@dataclass(frozen=True)
class Corpus:
    """`texts`: chunk -> texts; `copies`: (chunk, row) of a near-duplicate -> (chunk, row) of what it repeats."""

    chunks: Path
    texts: list[list[str]]
    copies: dict[tuple[int, int], tuple[int, int]]


def sentence_words(rng: random.Random, count: int) -> list[str]:
    """Words that hardly ever meet twice in the same order."""
    return [rng.choice(STEMS) + rng.choice(STEMS) + str(rng.randrange(100)) for _ in range(count)]


def write_corpus(folder: Path, texts: list[list[str]]) -> Path:
    for number, chunk in enumerate(texts):
        write_chunk(chunk_path(folder, number), [f"{number}-{row}" for row in range(len(chunk))], chunk)
    return folder


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    rng = random.Random(5)
    texts = [[" ".join(sentence_words(rng, 150)).capitalize() + "." for _ in range(12)] for _ in range(3)]
    copies: dict[tuple[int, int], tuple[int, int]] = {}
    places = [((0, 3), (0, 9)), ((0, 5), (1, 2)), ((0, 5), (2, 7)), ((1, 8), (2, 0)), ((2, 3), (2, 11))]
    for kept, copy in places:
        words = texts[kept[0]][kept[1]].split()
        words[rng.randrange(150)] = "anders"
        texts[copy[0]][copy[1]] = " ".join(words)
        copies[copy] = kept
    return Corpus(write_corpus(tmp_path / "train", texts), texts, copies)
