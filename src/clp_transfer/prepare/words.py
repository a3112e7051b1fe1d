"""Words and bytes of many texts at once: whitespace is looked for in their UTF-8, not text by text."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Counts = NDArray[np.int64]

# Bytes looked at together: what is made of them stays in the processor's cache, in memory that is used again and again.
BLOCK = 1 << 19

# The whitespace outside ASCII, of two and of three bytes, as big-endian numbers: none lies beyond U+3000.
WIDE = [chr(point).encode() for point in range(0x80, 0x3001) if chr(point).isspace()]
TWO, THREE = ([int.from_bytes(space) for space in WIDE if len(space) == length] for length in (2, 3))
# What the two kinds begin with: one byte, and a range of three.
LEAD_OF_TWO, LEADS_OF_THREE = np.uint8(0xC2), (np.uint8(0xE1), 3)


def count_bytes_and_words(texts: pa.LargeStringArray) -> tuple[Counts, Counts]:
    """UTF-8 bytes and words of each text, int64 [texts]; words are those of `clp_transfer.packed.count_words`.

    The texts are strings in Arrow's memory, where they lie end to end and are not copied.
    """
    if not len(texts):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    _, offsets, content = texts.buffers()
    bounds = np.frombuffer(offsets, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    data = np.frombuffer(content or b"", np.uint8)
    words = np.ones(len(texts), np.int64)
    for start, end in cut(bounds, BLOCK):
        inside = bounds[start : end + 1]
        _count(data[inside[0] : inside[-1]], inside - inside[0], words[start:end])
    return np.diff(bounds), words


def cut(bounds: Counts, size: int) -> Iterator[tuple[int, int]]:
    """Ranges of texts (first, one after the last), each ending with the text that fills `size` bytes.

    Text i has the bytes from `bounds[i]` to `bounds[i + 1]`.
    """
    start = 0
    while start < len(bounds) - 1:
        end = min(int(np.searchsorted(bounds, bounds[start] + size)), len(bounds) - 1)
        yield start, end
        start = end


def _count(data: NDArray[np.uint8], bounds: Counts, words: Counts) -> None:
    """Add to the words of texts that lie end to end how often whitespace begins in each."""
    starts = np.flatnonzero(np.diff(bounds))  # of texts that are not empty
    if not len(starts):
        return
    blank = _whitespace(data)
    first = np.empty_like(blank)  # of a run of whitespace
    np.greater(blank[1:], blank[:-1], out=first[1:])
    first[bounds[starts]] = blank[bounds[starts]]  # runs do not reach from one text into the next
    words[starts] += np.add.reduceat(first.view(np.uint8), bounds[starts], dtype=np.int32)


def _whitespace(data: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which bytes of some UTF-8 belong to a character that `str.isspace` calls whitespace."""
    # Numbers wrap around, so each comparison asks for a range: 9 to 13, 28 to 32 (the space).
    blank = (data - np.uint8(9) < 5) | (data - np.uint8(28) < 5)
    leads = np.flatnonzero((data == LEAD_OF_TWO) | (data - LEADS_OF_THREE[0] < LEADS_OF_THREE[1]))
    of_two = data[leads] == LEAD_OF_TWO
    two, three = leads[of_two], leads[~of_two]
    two = two[np.isin(_joined(data, two, 2), TWO)]
    three = three[np.isin(_joined(data, three, 3), THREE)]
    for position in (two, two + 1, three, three + 1, three + 2):
        blank[position] = True
    return blank


def _joined(data: NDArray[np.uint8], starts: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """The characters of `length` bytes that begin at some places, as big-endian numbers."""
    number = np.zeros(len(starts), np.int64)
    for byte in range(length):
        number = number << 8 | data[starts + byte]
    return number
