"""Texts in the order of their hashes: shuffled, free of exact duplicates, the same whatever order they came in.

A text's place is sha256(seed, text). With `group`, a pattern whose match in a document's id names what it belongs to (a
book, a session), the first half of the place is the group's hash instead: groups stay together, and none is divided
among the splits. The texts are first dealt into buckets by the beginning of their place, then one
bucket after the other is sorted and written: memory holds one bucket, whatever the corpus. Equal texts have equal
places and meet in one bucket, where the one that came first is kept.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pyarrow as pa

from clp_transfer.errors import UserError
from clp_transfer.files import read_json, write_json
from clp_transfer.prepare.chunks import CHUNK_BYTES, ChunkWriter, chunk_paths, read_chunk, stored_bytes
from clp_transfer.progress import Progress

BUCKET_BYTES = 64 << 20
MOST_BUCKETS = 512
HALF = 16
SCHEMA = pa.schema([("place", pa.binary(32)), ("id", pa.string()), ("text", pa.large_string())])


@dataclass
class Sizes:
    """How many UTF-8 bytes each split takes: `validation` first, then `train` (None: the rest)."""

    validation: int
    train: int | None


@dataclass
class ShuffleState:
    """Where writing stands: the bucket, the texts of it that are done, and what came of all so far.

    `group`: the last text's, and `split` what that group went to; both empty without groups.
    """

    bucket: int = 0
    row: int = 0
    documents: dict[str, int] = field(default_factory=dict)
    bytes: dict[str, int] = field(default_factory=dict)
    chunks: dict[str, int] = field(default_factory=dict)
    duplicates: int = 0
    finished: bool = False
    group: str = ""
    split: str | None = None


def place(text: str, seed: int) -> bytes:
    """Where a text stands in the order: 32 bytes."""
    return hashlib.sha256(f"{seed}\n{text}".encode()).digest()


def grouped_place(name: str, text: str, seed: int, group: str) -> bytes:
    """The same, the first HALF bytes being the group's; raises UserError where the pattern is not in the id."""
    found = re.search(group, name)
    if found is None:
        raise UserError(
            f"group={group} does not match the document id {name!r}",
            "give a pattern that every id matches, such as ^.*",
        )
    return place(found.group(), seed)[:HALF] + place(text, seed)[HALF:]


def shuffle(
    chunks: Path,
    removed: Mapping[int, Collection[int]],
    total_bytes: int,
    sizes: Sizes,
    seed: int,
    out: Path,
    what: str,
    group: str = "",
) -> ShuffleState:
    """Write the texts of `chunks`, without the `removed` rows, to `out/validation` and `out/train`.

    Whole texts only: a split ends with the text that reaches its size (with `group`, with that text's group); what is
    beyond both is counted as `beyond`.
    """
    file = out / "state.json"
    state = ShuffleState(**read_json(file)) if file.is_file() else ShuffleState()
    if state.finished:
        return state
    buckets = min(max(1, -(-total_bytes // BUCKET_BYTES)), MOST_BUCKETS)
    paths = chunk_paths(chunks)
    dealt = [out / "buckets" / f"{number:06d}.arrow" for number in range(len(paths))]
    todo = [number for number, target in enumerate(dealt) if not target.is_file()]
    size = [stored_bytes(path) for path in paths]
    with Progress(f"{what}: dealing", sum(size), sum(size) - sum(size[number] for number in todo)) as progress:
        for number in todo:
            _deal(paths[number], removed.get(number, ()), (seed, group), buckets, dealt[number])
            progress.add(size[number])
    with Progress(f"{what}: sorting", total_bytes, sum(state.bytes.values())) as progress:
        _Sorting(dealt, buckets, sizes, out, state, progress, grouped=bool(group)).run()
    shutil.rmtree(out / "buckets")
    return state


def _deal(path: Path, removed: Collection[int], order: tuple[int, str], buckets: int, target: Path) -> None:
    """One chunk's texts by bucket: an Arrow file with one batch a bucket, whole or absent."""
    hands: list[list[tuple[bytes, str, str]]] = [[] for _ in range(buckets)]
    gone, row, (seed, group) = set(removed), 0, order
    for ids, texts in read_chunk(path):
        for name, text in zip(ids, texts, strict=True):
            if row not in gone:
                at = grouped_place(name, text, seed, group) if group else place(text, seed)
                hands[int.from_bytes(at[:4], "big") * buckets >> 32].append((at, name, text))
            row += 1
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_suffix(".tmp")
    with aside.open("wb") as file:
        with pa.ipc.new_file(file, SCHEMA, options=pa.ipc.IpcWriteOptions(compression="lz4")) as writer:
            for hand in hands:
                columns = zip(*hand, strict=True) if hand else ((), (), ())
                arrays = [pa.array(column, kind.type) for column, kind in zip(columns, SCHEMA, strict=True)]
                writer.write_batch(pa.record_batch(arrays, schema=SCHEMA))
        file.flush()
        os.fsync(file.fileno())
    aside.replace(target)


def _bucket(dealt: list[Path], number: int) -> list[tuple[bytes, str, str]]:
    """A bucket's texts in the order of their places; equal ones in the order in which they came."""
    rows: list[tuple[bytes, str, str]] = []
    for path in dealt:
        with pa.memory_map(str(path)) as file:
            batch = pa.ipc.open_file(file).get_batch(number)
            rows.extend(zip(*(batch.column(i).to_pylist() for i in range(3)), strict=True))
    rows.sort(key=lambda row: row[0])
    return rows


class _Sorting:
    """The second half: bucket after bucket into the splits."""

    def __init__(
        self,
        dealt: list[Path],
        buckets: int,
        sizes: Sizes,
        out: Path,
        state: ShuffleState,
        progress: Progress,
        grouped: bool = False,
    ) -> None:
        self.grouped, self._group = grouped, ""
        self._at = self._done = (state.bucket, state.row)  # of the text at hand, and of the last that has its split
        self.dealt, self.buckets, self.out, self.state, self.progress = dealt, buckets, out, state, progress
        self.limits = {"validation": sizes.validation, "train": sizes.train}

    def run(self) -> None:
        writers = {name: ChunkWriter(self.out / name, self.state.chunks.get(name, 0)) for name in self.limits}
        for name, text in self._distinct():
            split = self._split({split: writer.size for split, writer in writers.items()})
            for other, writer in writers.items():
                if other != split:
                    self._flush(other, writer)
            self._done = self._at
            size = len(text.encode())
            self.progress.add(size)
            if split is None:
                self._count("beyond", 1, size)
                continue
            writer = writers[split]
            writer.add(name, text)
            if writer.size >= CHUNK_BYTES or (not self.grouped and self._is_full(split, writer.size)):
                self._flush(split, writer)
        for split, writer in writers.items():
            self._flush(split, writer)
        self.state.finished = True
        write_json(self.out / "state.json", asdict(self.state))

    def _distinct(self) -> Iterator[tuple[str, str]]:
        first, skip = self._done
        for bucket in range(first, self.buckets):
            before = b""
            for row, (at, name, text) in enumerate(_bucket(self.dealt, bucket), 1):
                is_new, before = at != before, at
                if bucket == first and row <= skip:
                    continue
                self._at, self._group = (bucket, row), at[:HALF].hex()
                if is_new:
                    yield name, text
                else:
                    self.state.duplicates += 1

    def _split(self, held: dict[str, int]) -> str | None:
        """Where the text goes: to what its group has gone to, else to the first split that is not full."""
        state = self.state
        if self.grouped and self._group == state.group:
            return state.split
        free = next((split for split in self.limits if not self._is_full(split, held[split])), None)
        if self.grouped:
            state.group, state.split = self._group, free
        return free

    def _is_full(self, split: str, more: int) -> bool:
        limit = self.limits[split]
        return limit is not None and self.state.bytes.get(split, 0) + more >= limit

    def _count(self, split: str, documents: int, size: int) -> None:
        self.state.documents[split] = self.state.documents.get(split, 0) + documents
        self.state.bytes[split] = self.state.bytes.get(split, 0) + size

    def _flush(self, split: str, writer: ChunkWriter) -> None:
        if not writer.texts:
            return
        self._count(split, len(writer.texts), writer.size)
        writer.flush()
        self.state.chunks[split] = writer.number
        self.state.bucket, self.state.row = self._done
        write_json(self.out / "state.json", asdict(self.state))
