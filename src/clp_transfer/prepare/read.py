"""Every file of a corpus, in its order, into chunks. A killed run goes on from its last whole chunk."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from clp_transfer.files import read_json, write_json
from clp_transfer.prepare.chunks import CHUNK_BYTES, ChunkWriter, chunk_paths, read_chunk
from clp_transfer.prepare.documents import Document, digest, valid
from clp_transfer.prepare.job import CleanConfig, SourceConfig
from clp_transfer.prepare.readers import ReadLimits, find_reader
from clp_transfer.prepare.sources import SourceFile
from clp_transfer.prepare.streams import Stream, open_stream
from clp_transfer.progress import Progress

log = logging.getLogger(__name__)


@dataclass
class ReadState:
    """Where reading stands: the file, how many documents its reader has given, and what is written so far.

    `left_out` counts what is complete; what the reader of the present file leaves out is counted again when a later run
    skips to its place. `opened`: how many of the files, which are read in their order, have been looked into.
    """

    file: int = 0
    given: int = 0
    documents: dict[str, int] = field(default_factory=dict)
    bytes: dict[str, int] = field(default_factory=dict)
    chunks: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)
    opened: int = 0
    finished: bool = False


@dataclass(frozen=True)
class Part:
    """A piece of the stream that begins where the one before ends, with its size in UTF-8 bytes (None: the rest)."""

    name: str
    size: int | None


class Reading:
    """One corpus's files on their way into `folder/<part>/`; `run` does it, in as many runs as it takes."""

    def __init__(
        self,
        what: str,
        files: list[SourceFile],
        sources: dict[str, SourceConfig],
        clean: CleanConfig,
        parts: list[Part],
        folder: Path,
        keep: Callable[[Document], bool] | None = None,
        distinct: bool = False,
    ) -> None:
        """`keep`: documents for which it is false belong elsewhere and are not counted. `distinct`: texts only once."""
        self.what, self.files, self.sources, self.clean, self.parts = what, files, sources, clean, parts
        self.folder, self.keep, self.distinct = folder, keep, distinct
        self.file = folder / "state.json"
        self.state = ReadState(**read_json(self.file)) if self.file.is_file() else ReadState()
        self.left_out = Counter(self.state.left_out)
        self._taken = 0  # bytes of text that are not in a chunk yet

    def run(self) -> ReadState:
        """Read what is left; the state then says what came of it. Raises UserError for files that cannot be read."""
        if self.state.finished:
            return self.state
        if self.state.chunks:
            log.info("%s: going on after %s documents", self.what, f"{sum(self.state.documents.values()):,}")
        seen = set(self._digests()) if self.distinct else None
        documents = self._documents(self.state.file, self.state.given)
        for part in self.parts:
            if self._is_full(part):
                continue
            writer = ChunkWriter(self.folder / part.name, self.state.chunks.get(part.name, 0))
            for document in documents:
                if seen is not None:
                    key = digest(document.text)
                    if key in seen:
                        self.left_out["duplicate"] += 1
                        continue
                    seen.add(key)
                writer.add(document.id, document.text)
                self._taken = writer.size
                full = self._is_full(part, writer.size)
                if writer.size >= CHUNK_BYTES or full:
                    self._flush(part, writer)
                if full:
                    break
            self._flush(part, writer)
        documents.close()  # so that the file that reading stopped in is counted too
        self.state.finished = True
        self._save()
        return self.state

    def _is_full(self, part: Part, more: int = 0) -> bool:
        return part.size is not None and self.state.bytes.get(part.name, 0) + more >= part.size

    def _flush(self, part: Part, writer: ChunkWriter) -> None:
        if not writer.texts:
            return
        for counts, more in ((self.state.documents, len(writer.texts)), (self.state.bytes, writer.size)):
            counts[part.name] = counts.get(part.name, 0) + more
        writer.flush()
        self.state.chunks[part.name] = writer.number
        self._taken = 0
        self.state.file, self.state.given = self._at
        self._save()

    def _save(self) -> None:
        self.state.left_out = dict(self.left_out)
        write_json(self.file, asdict(self.state))

    def _digests(self) -> Iterator[bytes]:
        """The texts that former runs have written."""
        for name in self.state.chunks:
            for path in chunk_paths(self.folder / name)[: self.state.chunks[name]]:
                for _, texts in read_chunk(path):
                    yield from map(digest, texts)

    def _documents(self, first: int, skip: int) -> Generator[Document, None, None]:
        """The valid documents from the place on; `_at` is always the place after the last one given."""
        self._at = (first, skip)
        with self._progress(first) as progress:
            for number, file in enumerate(self.files[first:], first):
                before = progress.done
                self.state.opened = max(self.state.opened, number + 1)
                for given, document in enumerate(self._given(file, progress, before), 1):
                    if number == first and given <= skip:
                        continue
                    self._at = (number, given)
                    if self.keep is not None and not self.keep(document):
                        continue
                    kept = valid(document, self.clean, self.left_out)
                    if kept is not None:
                        yield kept
                self._at = (number + 1, 0)
                if self._goal is None:
                    progress.to(max(progress.done, before + (file.size or 0)))

    @property
    def _goal(self) -> int | None:
        """The bytes of text that end the reading; None: the files do."""
        sizes = [part.size for part in self.parts]
        return None if None in sizes else sum(size or 0 for size in sizes)

    def _progress(self, first: int) -> Progress:
        """Of the text that is asked for, or, where all is, of the files' stored bytes; from file `first` on."""
        if self._goal is not None:
            return Progress(self.what, self._goal, self._text())
        sizes = [file.size for file in self.files]
        total = None if None in sizes else sum(size or 0 for size in sizes)
        return Progress(self.what, total, sum(size or 0 for size in sizes[:first]))

    def _text(self) -> int:
        return sum(self.state.bytes.values()) + self._taken

    def _given(self, file: SourceFile, progress: Progress, before: int) -> Iterator[Document]:
        """What a file's reader gives; what it leaves out is counted when it is done with."""
        counts: Counter[str] = Counter()
        source = self.sources[file.source]
        try:
            with _open(file, self.clean) as stream:
                reader = find_reader(source, file.member or file.name)
                for number, document in enumerate(reader(stream, source, ReadLimits(self.clean.longest), counts)):
                    if number % 256 == 0:
                        place = before + stream.position() if self._goal is None else self._text()
                        progress.to(max(progress.done, place))
                    yield document
                if stream.broken:
                    counts["broken_files"] += 1
        finally:
            self.left_out.update(counts)


def all_documents(files: list[SourceFile], sources: dict[str, SourceConfig], clean: CleanConfig) -> Iterator[Document]:
    """Every document of the files as their readers give them, for what needs a pass of its own."""
    limits = ReadLimits(clean.longest)
    for file in files:
        source = sources[file.source]
        with _open(file, clean) as stream:
            yield from find_reader(source, file.member or file.name)(stream, source, limits, Counter())


def _open(file: SourceFile, clean: CleanConfig) -> AbstractContextManager[Stream]:
    """The file's bytes; what is fetched may lie under another name than its own, which says how to decompress it."""
    return open_stream(file.fetch(), file.member, broken=clean.broken, name=None if file.member else file.name)
