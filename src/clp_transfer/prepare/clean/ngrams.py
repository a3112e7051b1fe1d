"""Hashes of runs of words, for whole batches of texts at once: no word ever becomes a Python string.

A text's words are `re.findall(r"\\w+", text.casefold())`. The hash of a word is a polynomial in its code points, the
hash of a run is a polynomial in the hashes of its words, both modulo 2^64. The constants are fixed, so a text has the
same hashes in every process. Two different runs share a hash with a probability of about 2^-64.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]
Owners = npt.NDArray[np.int64]

# Characters that are hashed together: the arrays of a batch stay in the processor's cache.
BATCH = 1 << 18
# Any odd numbers with well-mixed bits do: an odd number has an inverse modulo 2^64.
_CHARACTER_BASE = 0x9E3779B97F4A7C15
_WORD_BASE = np.uint64(0xD6E8FEB86659FD93)
_MIX = np.uint64(0xFF51AFD7ED558CCD)


def word_hashes(texts: Iterable[str]) -> Iterator[tuple[Hashes, Owners]]:
    """Hash every word. Yields pairs of arrays, each of shape (words,): the hashes, and the number of the word's text.

    A text's words are all in one pair, in their order.
    """
    batch: list[str] = []
    size = first = 0
    for number, text in enumerate(texts):
        folded = text.casefold()
        if batch and size + len(folded) >= BATCH:
            yield _hash_batch(batch, first)
            batch, size = [], 0
        if len(folded) >= BATCH:
            hashes = np.concatenate([_hash_words(piece)[0] for piece in _pieces(folded)])
            yield hashes, np.full(len(hashes), number, np.int64)
            continue
        if not batch:
            first = number
        batch.append(folded)
        size += len(folded) + 1
    if batch:
        yield _hash_batch(batch, first)


def runs(words: Hashes, shortest: int, longest: int) -> Iterator[tuple[int, Hashes]]:
    """The hashes of all runs of `shortest` to `longest` words: pairs of a length and an array (words - length + 1,)."""
    hashes = words.copy()
    for length in range(1, min(longest, len(words)) + 1):
        if length > 1:
            hashes = hashes[:-1] * _WORD_BASE
            hashes += words[length - 1 :]
        if length >= shortest:
            yield length, hashes


def _hash_batch(folded: list[str], first: int) -> tuple[Hashes, Owners]:
    hashes, starts = _hash_words(" ".join(folded))
    ends = np.cumsum([len(text) + 1 for text in folded])
    counts = np.diff(np.searchsorted(starts, ends), prepend=0)
    return hashes, np.repeat(np.arange(first, first + len(folded)), counts)


def _hash_words(folded: str) -> tuple[Hashes, Owners]:
    """The hashes of the words of at most BATCH characters, and where each begins."""
    word, powers, inverses = _tables()
    codes = np.frombuffer(folded.encode("utf-32-le", "surrogatepass"), np.uint32)
    inside = np.zeros(len(codes) + 2, bool)
    inside[1:-1] = word[codes]
    edges = np.flatnonzero(inside[1:] != inside[:-1])
    starts, ends = edges[::2], edges[1::2]
    sums = np.zeros(len(codes) + 1, np.uint64)
    np.cumsum((codes + np.uint32(1)) * powers[: len(codes)], out=sums[1:])
    hashes = (sums[ends] - sums[starts]) * inverses[starts]
    hashes ^= hashes >> np.uint64(32)
    hashes *= _MIX
    return hashes, starts


def _pieces(folded: str) -> Iterator[str]:
    """Cut a long text between words; a single word longer than BATCH is cut as well."""
    start = 0
    while len(folded) - start > BATCH:
        end = start + BATCH
        while end > start and _in_word(folded[end - 1]) and _in_word(folded[end]):
            end -= 1
        end = end if end > start else start + BATCH
        yield folded[start:end]
        start = end
    yield folded[start:]


def _in_word(character: str) -> bool:
    return character.isalnum() or character == "_"


@cache
def _tables() -> tuple[npt.NDArray[np.bool_], Hashes, Hashes]:
    """Which code points are `\\w`; the powers of the base and of its inverse."""
    word = np.zeros(0x110000, bool)
    for found in re.finditer(r"\w+", "".join(map(chr, range(len(word))))):
        word[found.start() : found.end()] = True
    powers, inverses = (
        np.full(BATCH + 1, base, np.uint64) for base in (_CHARACTER_BASE, pow(_CHARACTER_BASE, -1, 1 << 64))
    )
    for table in (powers, inverses):
        table[0] = 1
        np.cumprod(table, out=table)
    return word, powers, inverses
