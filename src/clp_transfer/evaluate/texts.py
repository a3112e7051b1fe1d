"""Held-out texts to measure on: files read as the prepare stage reads them, or its validation pack."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import AutoTokenizer

from clp_transfer.errors import UserError
from clp_transfer.evaluate.tokens import Tokens
from clp_transfer.packed import BYTES, WORDS, PackedCorpus, count_words
from clp_transfer.prepare.documents import Document, valid
from clp_transfer.prepare.job import CleanConfig, SourceConfig
from clp_transfer.prepare.readers import ReadLimits, find_reader
from clp_transfer.prepare.readers.jsonl import jsonl, rows_with_text
from clp_transfer.prepare.streams import Stream, open_stream

log = logging.getLogger(__name__)

# Of JSON lines, the fields that may say to which part a document belongs; the first that any of the rows has.
PARTS = ("domain", "source")
NO_PART = "(none)"
Fields = tuple[str | None, ...]  # the values of `PARTS`
NO_FIELDS: Fields = (None,) * len(PARTS)


@dataclass(frozen=True)
class Text:
    """Documents of one held-out text as ids, with their UTF-8 bytes and words, int64 [documents].

    `documents`: for windows of documents each begins with the beginning token, for a stream each ends with
    end-of-text. `parts`: to which part each belongs, if that is known. `about`: where it comes from, for the result.
    """

    name: str
    documents: list[NDArray[np.int32]]
    bytes: NDArray[np.int64]
    words: NDArray[np.int64]
    parts: list[str] | None = None
    about: dict[str, Any] = field(default_factory=dict)


def from_strings(
    name: str, texts: list[str], tokens: Tokens, *, stream: bool = False, parts: list[str] | None = None, **about: Any
) -> Text:
    """A text whose documents are at hand; raises UserError where there is no character in them."""
    if not any(texts):
        raise UserError(f"the text {name} is empty", "give one with at least one document")
    sizes = np.array([len(text.encode()) for text in texts], dtype=np.int64)
    words = np.array([count_words(text) for text in texts], dtype=np.int64)
    made = tokens.stream(texts) if stream else tokens.documents(texts)
    return Text(name, made, sizes, words, parts, about)


def from_files(name: str, files: list[Path], tokens: Tokens, *, max_bytes: int | None, stream: bool = False) -> Text:
    """A text from files (`.jsonl`, `.txt`, `.parquet`, compressed or not), the first documents of at most `max_bytes`.

    Raises UserError where a file cannot be read, holds no document, or the first one is longer than `max_bytes`.
    """
    texts: list[str] = []
    fields: list[Fields] = []
    left_out: Counter[str] = Counter()
    size, full = 0, False
    for file in files:
        for text, found in _read(file, left_out) if not full else ():
            size += len(text.encode())
            full = max_bytes is not None and size > max_bytes
            if full:
                break
            texts.append(text)
            fields.append(found)
    if not texts:
        listed = ", ".join(map(str, files))
        why = f" ({', '.join(f'{reason}: {count}' for reason, count in left_out.items())})" if left_out else ""
        raise UserError(
            f"evaluate.max_bytes={max_bytes} leaves no whole document of {listed}"
            if full
            else f"the text {name} is empty: no document in {listed}{why}",
            "raise evaluate.max_bytes" if full else "give a file with at least one document that is not empty",
        )
    if left_out:
        log.warning("%s: left out %s", name, ", ".join(f"{count} {reason}" for reason, count in left_out.items()))
    about: dict[str, Any] = {"files": [file.name for file in files]} | (
        {"left_out": dict(left_out)} if left_out else {}
    )
    return from_strings(name, texts, tokens, stream=stream, parts=_parts(fields), **about)


def _parts(fields: list[Fields]) -> list[str] | None:
    """Each document's part by the first of `PARTS` that any document has; None where none has one."""
    for number in range(len(PARTS)):
        found = [values[number] for values in fields]
        if any(found):
            return [part or NO_PART for part in found]
    return None


def _read(file: Path, left_out: Counter[str]) -> Iterator[tuple[str, Fields]]:
    """The documents of a file, as they are asked for, with what their rows' `PARTS` say."""
    clean = CleanConfig()
    with open_stream(file) as stream:
        for text, fields in _rows(stream, file, ReadLimits(clean.longest), left_out):
            # The parts are looked at with it: they are written too, and so must be UTF-8.
            kept = valid(Document("".join(part or "" for part in fields), text), clean, left_out)
            if kept is not None:
                yield kept.text, fields


def _rows(stream: Stream, file: Path, limits: ReadLimits, left_out: Counter[str]) -> Iterator[tuple[str, Fields]]:
    config = SourceConfig()
    reader = find_reader(config, str(file))
    if reader is not jsonl:
        for document in reader(stream, config, limits, left_out):
            yield document.text, NO_FIELDS
        return
    for _, row, text in rows_with_text(stream, config, limits, left_out):
        values = (row.get(name) for name in PARTS)
        yield text, tuple(value if isinstance(value, str) else None for value in values)


def from_pack(
    prefix: Path, tokenizer: Path | None, model: Path, tokens: Tokens, *, max_bytes: int | None, stream: bool
) -> Text:
    """The validation pack, or its head, in the model's own tokens.

    Its ids are used as they are where the model's tokenizer.json (in the folder `model`) is what made them. Else the
    pack is decoded with the tokenizer that made it, in the folder `tokenizer`, and encoded again. Raises UserError
    where that does not give back as many bytes as the pack was made of.
    """
    pack = PackedCorpus(prefix)
    ids, index = pack.head(max_bytes)
    documents = [ids[start : end - 1] for start, end in _spans(index)]
    sizes, words = np.array(index[:, BYTES]), np.array(index[:, WORDS])
    if pack.made_by(model):
        closed = [ids[start:end].astype(np.int32) for start, end in _spans(index)]
        made = closed if stream else [tokens.wrapped(one) for one in documents]
        return Text(prefix.name, made, sizes, words, about={"pack": prefix.name, "ids": "the pack's own"})
    if tokenizer is None or not pack.made_by(tokenizer):
        raise UserError(
            f"{prefix} was packed with another tokenizer than the model's, and {tokenizer} is not the one either",
            "run prepare.py again, or name texts to measure on: texts={news: file.jsonl}",
        )
    theirs: Any = AutoTokenizer.from_pretrained(tokenizer, local_files_only=True)
    texts: list[str] = [theirs.decode(one.tolist(), clean_up_tokenization_spaces=False) for one in documents]
    if [len(text.encode()) for text in texts] != sizes.tolist():
        raise UserError(
            f"{prefix} does not decode to the text that it was made of, so another tokenizer cannot read it",
            "name the texts themselves: texts={news: file.jsonl}",
        )
    made = tokens.stream(texts) if stream else tokens.documents(texts)
    about = {"pack": prefix.name, "ids": "the pack's text, encoded again with the model's tokenizer"}
    return Text(prefix.name, made, sizes, words, about=about)


def _spans(index: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Where each document begins and ends in the pack's tokens."""
    ends = [0, *map(int, index[:, 0])]
    return list(pairwise(ends))
