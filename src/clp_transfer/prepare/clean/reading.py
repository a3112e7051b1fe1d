"""Chunks as datatrove reads them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from datatrove.data import Document, DocumentsPipeline
from datatrove.pipeline.base import PipelineStep

from clp_transfer.prepare.chunks import chunk_paths, read_chunk
from clp_transfer.prepare.clean import rows


class ReadChunk(PipelineStep):  # type: ignore[misc]
    """Task i reads chunk i. Rows that an earlier step removed come as empty texts, so that rows keep their numbers."""

    type = "📖 - READER"
    name = "chunk"

    def __init__(self, chunks: Path, removed: Sequence[Path]) -> None:
        super().__init__()
        self.chunks, self.removed = chunks, list(removed)

    def run(self, data: DocumentsPipeline = None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """Yield the documents of the chunk."""
        path = chunk_paths(self.chunks)[rank]
        gone = rows.removed(self.removed, int(path.stem))
        row = 0
        for ids, texts in read_chunk(path):
            for name, text in zip(ids, texts, strict=True):
                yield Document("" if row in gone else text, name)
                row += 1
