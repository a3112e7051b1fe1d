"""Words counted in UTF-8 are those of the paper's harness, whatever the whitespace."""

from __future__ import annotations

import random
import re
import sys

import pyarrow as pa
import pytest

from clp_transfer.prepare import words
from clp_transfer.prepare.encoders.hostile import hostile_texts
from clp_transfer.prepare.words import count_bytes_and_words

CHARACTERS = [chr(point) for point in range(sys.maxunicode + 1) if not 0xD800 <= point < 0xE000]


def check(texts: list[str]) -> None:
    # A piece of something longer, as it is when a chunk is cut into batches.
    whole = pa.array(["before ", *texts, " after"], pa.large_string())
    sizes, counts = count_bytes_and_words(whole.slice(1, len(texts)))
    assert sizes.tolist() == [len(text.encode()) for text in texts]
    assert counts.tolist() == [len(re.split(r"\s+", text)) for text in texts]


@pytest.mark.parametrize("texts", [[], [""], ["", "", ""], [" "], ["a", " ", "", " ", "b "], ["\u3000", "\u00a0"]])
def test_edges(texts: list[str]) -> None:
    check(texts)


def test_nothing_at_all() -> None:
    for nothing in (pa.array([], pa.large_string()), pa.array([""], pa.large_string()).slice(1)):
        assert [part.tolist() for part in count_bytes_and_words(nothing)] == [[], []]


def test_hostile_texts() -> None:
    check(hostile_texts())


@pytest.mark.parametrize("block", [1, 7, 300])
def test_texts_are_counted_in_blocks(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "BLOCK", block)
    check(["", *hostile_texts(), " ", "", ""])


def test_every_character() -> None:
    check([f"a{''.join(CHARACTERS[i : i + 7])}b" for i in range(0, len(CHARACTERS), 7)])


def test_all_ways_to_mix_whitespace() -> None:
    draw = random.Random(0)
    # Also signs whose bytes begin as those of whitespace do.
    pieces = [c for c in CHARACTERS if c.isspace()] + list("abcü„“–…¡ကあ") + ["  "]
    check(["".join(draw.choices(pieces, k=draw.randint(0, 9))) for _ in range(20_000)])
