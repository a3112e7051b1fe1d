"""Leave out of the training texts what the evaluation asks: texts that share a run of words with an evaluation text.

An evaluation text of fewer than `ngram` words is looked for as a whole, if it has at least MINIMUM_WORDS: most test
sentences are that short. A shorter one would be found everywhere. Words are those of `ngrams`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from glob import glob
from pathlib import Path

import numpy as np
import numpy.typing as npt

from clp_transfer.errors import UserError
from clp_transfer.files import read_json, write_json
from clp_transfer.json_strings import json_strings
from clp_transfer.prepare.chunks import read_chunk
from clp_transfer.prepare.clean import rows
from clp_transfer.prepare.clean.ngrams import Hashes, runs, word_hashes

MINIMUM_WORDS = 8
# How the hashes are gathered: room is added in steps, in place where the system can, so that none is held twice.
_STEP = 1 << 22
# The filter has about 16 bits a hash, and at most 128 MiB.
_FILTER_BITS = range(16, 31)


@dataclass(frozen=True)
class Index:
    """The runs of words of the evaluation texts.

    `hashes`: sorted, shape (runs,). `bits`: a bit for every value of the first `64 - shift` bits of a hash, set where
    there is one; nearly all of a corpus's runs are dismissed by it. `lengths`: the lengths of runs that occur.
    """

    hashes: Hashes
    bits: npt.NDArray[np.uint8]
    lengths: tuple[int, ...]

    @property
    def shift(self) -> int:
        """By how much a hash is shifted to number its bit."""
        return 64 - (len(self.bits) * 8).bit_length() + 1

    def contains(self, hashes: Hashes) -> npt.NDArray[np.bool_]:
        """Which of the hashes are in the index; the same shape."""
        slots = hashes >> np.uint64(self.shift)
        found = (self.bits[slots >> np.uint64(3)] >> (slots & np.uint64(7)).astype(np.uint8) & np.uint8(1)).astype(bool)
        candidates = np.flatnonzero(found)
        if len(candidates):
            wanted = hashes[candidates]
            places = np.minimum(np.searchsorted(self.hashes, wanted), len(self.hashes) - 1)
            found[candidates] = self.hashes[places] == wanted
        return found

    def save(self, folder: Path) -> None:
        """Write the index where `load` finds it."""
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "hashes.npy", self.hashes)
        np.save(folder / "bits.npy", self.bits)
        write_json(folder / "lengths.json", self.lengths)

    @staticmethod
    def load(folder: Path) -> Index:
        """Map a saved index into memory: processes on one machine share it."""
        hashes, bits = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("hashes", "bits"))
        return Index(hashes, bits, tuple(read_json(folder / "lengths.json")))


def build(texts: Iterable[str], ngram: int) -> Index:
    """Index the runs of `ngram` words of the evaluation texts, and whole texts that are shorter."""
    shortest = min(MINIMUM_WORDS, ngram)
    hashes, count = np.empty(0, np.uint64), 0
    lengths: set[int] = set()
    for words, owner in word_hashes(texts):
        first = np.flatnonzero(np.diff(owner, prepend=-1))  # where each text begins
        total = np.diff(first, append=len(words))
        for length, run in runs(words, shortest, ngram):
            inside = owner[: len(run)] == owner[length - 1 :]  # the others go on into the next text
            new = run[inside] if length == ngram else run[first[total == length]]
            if not len(new):
                continue
            lengths.add(length)
            if count + len(new) > len(hashes):
                hashes.resize(count + len(new) + _STEP, refcheck=False)
            hashes[count : count + len(new)] = new
            count += len(new)
    hashes.resize(count, refcheck=False)
    hashes.sort()
    return Index(hashes, _filter(hashes), tuple(sorted(lengths)))


def _filter(hashes: Hashes) -> npt.NDArray[np.uint8]:
    width = min(max((16 * len(hashes)).bit_length(), _FILTER_BITS.start), _FILTER_BITS.stop - 1)
    bits = np.zeros(1 << (width - 3), np.uint8)
    for start in range(0, len(hashes), _STEP):
        slots = hashes[start : start + _STEP] >> np.uint64(64 - width)
        np.bitwise_or.at(bits, slots >> np.uint64(3), np.uint8(1) << (slots & np.uint64(7)).astype(np.uint8))
    return bits


def matches(index: Index, texts: list[str]) -> npt.NDArray[np.bool_]:
    """Which texts have a run of words that the index has; shape (texts,)."""
    found = np.zeros(len(texts), bool)
    if not index.lengths:
        return found
    for words, owner in word_hashes(texts):
        for length, run in runs(words, index.lengths[0], index.lengths[-1]):
            if length in index.lengths:
                begins = owner[: len(run)]
                found[begins[index.contains(run) & (begins == owner[length - 1 :])]] = True
    return found


def mark_chunk(chunk: Path, index: Path, results: Path) -> None:
    """Write which rows of a chunk are contaminated, for a process of a pool; `index`: the folder of a saved one."""
    contaminated: list[int] = []
    row = 0
    for _, texts in read_chunk(chunk):
        contaminated += (row + np.flatnonzero(matches(_load(index), texts))).tolist()
        row += len(texts)
    rows.write(results, int(chunk.stem), {"contaminated": {"": contaminated}} if contaminated else {})


@lru_cache(maxsize=1)
def _load(folder: Path) -> Index:
    return Index.load(folder)


def read_evaluation_texts(paths: list[str]) -> Iterator[str]:
    """Every string of JSON-lines files (paths or globs), however deep in a row; which are too short, `build` decides.

    Raises UserError as `evaluation_files` does, and for a line that is not JSON.
    """
    for path in evaluation_files(paths):
        yield from _read_lines(path)


def evaluation_files(paths: list[str]) -> list[Path]:
    """The files that paths and globs name; raises UserError for a name without files and one not ending in `.jsonl`."""
    found: list[Path] = []
    for pattern in paths:
        names = sorted(glob(pattern, recursive=True))  # noqa: PTH207 - a pattern may be absolute
        if not names:
            raise UserError(
                f"there is no file of evaluation texts {pattern}", "name `.jsonl` files or globs in clean.decontaminate"
            )
        for path in map(Path, names):
            if path.suffix != ".jsonl":
                raise UserError(f"{path} is not a `.jsonl` file", "give evaluation texts as JSON lines, not compressed")
            found.append(path)
    return found


def _read_lines(path: Path) -> Iterator[str]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:  # JSONDecodeError and UnicodeDecodeError are both ValueErrors
                raise UserError(f"{path}, line {number}, is not JSON: {error}", "mend the line or the file") from error
            yield from json_strings(row)
