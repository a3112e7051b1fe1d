"""Words and bytes of many texts at once: whitespace is looked for in their UTF-8, not text by text."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Counts = NDArray[np.int64]

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
    data = np.frombuffer(content or b"", np.uint8)[bounds[0] : bounds[-1]]
    bounds = bounds - bounds[0]
    starts = np.flatnonzero(np.diff(bounds))  # of texts that are not empty
    blank = _whitespace(data)
    first = blank.copy()  # of a run of whitespace
    first[1:] &= ~blank[:-1]
    first[bounds[starts]] = blank[bounds[starts]]  # runs do not reach from one text into the next
    words = np.ones(len(texts), np.int64)
    if len(starts):
        words[starts] += np.add.reduceat(first.view(np.uint8), bounds[starts], dtype=np.int32)
    return np.diff(bounds), words


def _whitespace(data: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which bytes of some UTF-8 belong to a character that `str.isspace` calls whitespace."""
    # Numbers wrap around, so each comparison asks for a range: 9 to 13, 28 to 32 (the space).
    blank = (data - np.uint8(9) < 5) | (data - np.uint8(28) < 5)
    two = np.flatnonzero(data == LEAD_OF_TWO)
    two = two[np.isin(_joined(data, two, 2), TWO)]
    three = np.flatnonzero(data - LEADS_OF_THREE[0] < LEADS_OF_THREE[1])
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
