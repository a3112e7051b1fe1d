"""Readers: each turns one stored file into documents, found by the name the config gives or by the file's own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath

from clp_transfer.errors import UserError
from clp_transfer.prepare.documents import Document
from clp_transfer.prepare.job import SourceConfig
from clp_transfer.prepare.readers.gc4 import gc4
from clp_transfer.prepare.readers.jsonl import jsonl
from clp_transfer.prepare.readers.lines import ReadLimits, lines
from clp_transfer.prepare.readers.parquet import parquet
from clp_transfer.prepare.readers.text import text
from clp_transfer.prepare.readers.wikipedia_leads import wikipedia_leads
from clp_transfer.prepare.readers.wiktionary import wiktionary
from clp_transfer.prepare.streams import Stream, split_name

__all__ = ["READERS", "ReadLimits", "Reader", "find_reader"]

# A reader yields a file's documents in their order, always the same, and counts by reason what it leaves out. Bytes
# that are no UTF-8 come as lone surrogates (`surrogateescape`): what to do with them is for the cleaning to say.
Reader = Callable[[Stream, SourceConfig, ReadLimits, Counter[str]], Iterator[Document]]

READERS: dict[str, Reader] = {
    "jsonl": jsonl,
    "parquet": parquet,
    "text": text,
    "lines": lines,
    "wiktionary": wiktionary,
    "wikipedia_leads": wikipedia_leads,
    "gc4": gc4,
}
WITH_FIELDS = ("jsonl", "parquet", "gc4")  # the readers whose rows have something to `drop` them by
BY_SUFFIX = {".jsonl": jsonl, ".ndjson": jsonl, ".json": jsonl, ".parquet": parquet, ".txt": text}


def find_reader(config: SourceConfig, file_name: str) -> Reader:
    """The reader that the config names, else the one for the file's name without compression.

    Raises UserError that lists the known ones, and where the source has a `drop` that the reader would not look at.
    """
    known = ", ".join(READERS)
    if config.reader and config.reader not in READERS:
        raise UserError(f"unknown reader {config.reader!r}", f"use one of: {known}")
    reader = READERS[config.reader] if config.reader else _by_name(file_name, known)
    if config.drop and reader not in map(READERS.get, WITH_FIELDS):
        name = next(name for name, one in READERS.items() if one is reader)
        raise UserError(
            f"a source drops documents by {', '.join(config.drop)}, and the reader {name}"
            + ("" if config.reader else f", which goes with {file_name},")
            + " knows no fields",
            f"take `drop` out, give files without fields a source of their own, or set `reader` to one of: "
            f"{', '.join(WITH_FIELDS)}",
        )
    return reader


def _by_name(file_name: str, known: str) -> Reader:
    suffix = PurePosixPath(split_name(file_name)[0]).suffix.lower()
    if suffix not in BY_SUFFIX:
        raise UserError(
            f"{file_name}: no reader goes with this name ({', '.join(BY_SUFFIX)} are known, also compressed)",
            f"set the source's `reader` to one of: {known}",
        )
    return BY_SUFFIX[suffix]
