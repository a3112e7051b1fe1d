"""Which rows of which chunk are removed, on the disk: one small JSON file a chunk and step, each whole or absent."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from clp_transfer.files import read_json, write_text

# reason -> what exactly (a filter's rule, or "") -> row numbers in their order
Marks = dict[str, dict[str, list[int]]]


def path(folder: Path, chunk: int) -> Path:
    """The file of one chunk in a step's folder."""
    return folder / f"{chunk:06d}.json"


def write(folder: Path, chunk: int, marks: Marks) -> None:
    """Write what a step found in a chunk."""
    write_text(path(folder, chunk), json.dumps(marks) + "\n")


def read(folders: Sequence[Path], chunk: int) -> Marks:
    """What the steps found in a chunk, together; a step that has not looked at it yet adds nothing."""
    found: Marks = {}
    for folder in folders:
        file = path(folder, chunk)
        if file.exists():
            found.update(read_json(file))
    return found


def removed(folders: Sequence[Path], chunk: int) -> dict[int, str]:
    """The rows of a chunk that the steps remove, and the reason of each."""
    marks = read(folders, chunk)
    return {row: reason for reason, details in marks.items() for found in details.values() for row in found}


class ChunkRows(Mapping[int, dict[int, str]]):
    """Chunk number -> row -> reason, read when asked for: the rows of a large corpus would not fit into memory."""

    def __init__(self, folders: Sequence[Path], chunks: Sequence[int]) -> None:
        self._folders, self._chunks = tuple(folders), dict.fromkeys(chunks)

    def __getitem__(self, chunk: int) -> dict[int, str]:
        if chunk not in self._chunks:
            raise KeyError(chunk)
        return removed(self._folders, chunk)

    def __iter__(self) -> Iterator[int]:
        return iter(self._chunks)

    def __len__(self) -> int:
        return len(self._chunks)
