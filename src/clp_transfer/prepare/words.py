"""Words and bytes of many texts at once: whitespace is looked for in their UTF-8, not text by text."""

from __future__ import annotations

from functools import reduce

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]

# The whitespace outside ASCII, of two and of three bytes, as big-endian numbers: none lies beyond U+3000.
WIDE = [chr(point).encode() for point in range(0x80, 0x3001) if chr(point).isspace()]
TWO, THREE = ([int.from_bytes(space) for space in WIDE if len(space) == length] for length in (2, 3))
LEADS = np.unique([space[0] for space in WIDE]).astype(np.uint8)


def count_bytes_and_words(texts: list[str]) -> tuple[Counts, Counts]:
    """UTF-8 bytes and words of each text, int64 [texts]; words are those of `clp_transfer.packed.count_words`."""
    encoded = [text.encode() for text in texts]
    bounds = np.zeros(len(texts) + 1, np.int64)
    np.cumsum([len(part) for part in encoded], out=bounds[1:])
    blank = _whitespace(np.frombuffer(b"".join([*encoded, b"\0\0"]), np.uint8))
    first = blank.copy()  # of a run of whitespace
    first[1:] &= ~blank[:-1]
    first[bounds] = blank[bounds]  # runs do not reach from one text into the next
    first[-2:] = False
    runs = np.diff(np.searchsorted(np.flatnonzero(first), bounds))
    return np.diff(bounds), runs + 1


def _whitespace(data: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which bytes belong to a character that `str.isspace` calls whitespace; the last two bytes must be 0."""
    # Numbers wrap around, so each comparison asks for a range: 9 to 13, 28 to 32 (the space).
    blank = (data - np.uint8(9) < 5) | (data - np.uint8(28) < 5)
    found = np.flatnonzero(reduce(np.bitwise_or, (data == lead for lead in LEADS)))
    pairs = data[found].astype(np.int64) << 8 | data[found + 1]
    two, three = found[np.isin(pairs, TWO)], found[np.isin(pairs << 8 | data[found + 2], THREE)]
    for position in (two, two + 1, three, three + 1, three + 2):
        blank[position] = True
    return blank
