"""Texts on the disk: a folder of numbered Parquet files, each whole or absent, with the columns `id` and `text`."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from clp_transfer.errors import UserError

# Text per chunk: what a killed run repeats at most, and what is held in memory at once.
CHUNK_BYTES = 32 << 20
ROW_GROUP = 4096
# Text read at once where no more is needed than a part of a chunk.
READ_BYTES = 1 << 20
SCHEMA = pa.schema([("id", pa.string()), ("text", pa.large_string())])


def chunk_path(folder: Path, number: int) -> Path:
    """The file of chunk `number`."""
    return folder / f"{number:06d}.parquet"


def chunk_paths(folder: Path) -> list[Path]:
    """The chunks of a split, in their order; raises UserError where there are none."""
    paths = sorted(folder.glob("[0-9]*.parquet"))
    if not paths:
        raise UserError(f"{folder} has no texts", "run prepare.py first")
    return paths


def write_chunk(path: Path, ids: Sequence[str], texts: Sequence[str]) -> None:
    """Write a chunk aside, sync it and rename it: a crash leaves no part of one."""
    write_table(path, pa.table([pa.array(ids, pa.string()), pa.array(texts, pa.large_string())], schema=SCHEMA))


def write_table(path: Path, table: pa.Table) -> None:
    """Write any table as Parquet (zstd) in row groups, whole or not at all; the same rows give the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".tmp")
    with aside.open("wb") as file:
        pq.write_table(table, file, compression="zstd", compression_level=1, row_group_size=ROW_GROUP)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)


def read_chunk(path: Path) -> Iterator[tuple[list[str], list[str]]]:
    """The ids and texts of one chunk, a row group at a time."""
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(ROW_GROUP):
            yield batch.column("id").to_pylist(), batch.column("text").to_pylist()


def read_texts(path: Path, size: int = READ_BYTES) -> Iterator[pa.LargeStringArray]:
    """The texts of one chunk as Arrow has them, about `size` bytes at a time; the ids are not read."""
    with pq.ParquetFile(path) as file:
        for number in range(file.num_row_groups):
            group = file.metadata.row_group(number)
            rows = max(1, size * group.num_rows // max(group.total_byte_size, 1))
            for batch in file.iter_batches(rows, row_groups=[number], columns=["text"], use_threads=False):
                yield batch.column("text")


def iter_texts(folder: Path) -> Iterator[str]:
    """All texts of a split, in their order."""
    for path in chunk_paths(folder):
        for texts in read_texts(path):
            yield from texts.to_pylist()


class ChunkWriter:
    """Texts into the chunks of a folder, from chunk `number` on; who writes says when a chunk is full."""

    def __init__(self, folder: Path, number: int = 0) -> None:
        self.folder, self.number = folder, number
        self.ids: list[str] = []
        self.texts: list[str] = []
        self.size = 0

    def add(self, name: str, text: str) -> None:
        """Put a text into the present chunk; `size` counts UTF-8 bytes."""
        self.ids.append(name)
        self.texts.append(text)
        self.size += len(text.encode())

    def flush(self) -> None:
        """Write the present chunk, if there is anything in it, and begin the next."""
        if self.texts:
            write_chunk(chunk_path(self.folder, self.number), self.ids, self.texts)
            self.number += 1
        self.ids, self.texts, self.size = [], [], 0


def copy_without(chunks: Path, removed: Mapping[int, Collection[int]], out: Path) -> None:
    """The chunks of a folder in another, without the rows that are `removed` (by number of chunk and of row).

    A chunk that loses nothing becomes a second name of the same file where the file system can do that.
    """
    for number, path in enumerate(chunk_paths(chunks)):
        target = chunk_path(out, number)
        if target.is_file():
            continue
        out.mkdir(parents=True, exist_ok=True)
        gone = set(removed.get(number, ()))
        if gone:
            table = pq.read_table(path)
            keep = pa.array([row not in gone for row in range(table.num_rows)], pa.bool_())
            write_table(target, table.filter(keep).combine_chunks())
        else:
            _link(path, target)


def _link(path: Path, target: Path) -> None:
    try:
        os.link(path, target)
    except OSError:  # a file system without hard links
        aside = target.with_suffix(".tmp")
        shutil.copyfile(path, aside)
        aside.replace(target)


def stored_bytes(path: Path) -> int:
    """Bytes of a chunk's texts before they were compressed, from its footer: four a text more than the texts have."""
    metadata = pq.read_metadata(path)
    column = metadata.schema.names.index("text")
    groups = (metadata.row_group(number) for number in range(metadata.num_row_groups))
    return sum(group.column(column).total_uncompressed_size for group in groups)


def measure(folder: Path) -> dict[str, int]:
    """Documents and UTF-8 bytes of a split."""
    documents = size = 0
    for path in chunk_paths(folder):
        for texts in read_texts(path):
            documents += len(texts)
            size += pc.sum(pc.binary_length(texts)).as_py() or 0
    return {"documents": documents, "bytes": size}
