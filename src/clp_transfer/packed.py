"""Packed corpora: documents end to end in one memory-mapped token file, with an index of the documents.

A pack `<prefix>` is three files. `<prefix>.bin`: the token ids, little-endian uint16 or uint32, every document
followed by one end-of-text token. `<prefix>.docs.npy`: int64 [documents, 3]: where the document ends in the
token file (its end-of-text included), its UTF-8 bytes, its words (`re.split(r"\\s+", text)`, as in the paper's
harness). `<prefix>.json`: the totals, the tokenizer's hash and the end-of-text id.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clp_transfer.errors import UserError
from clp_transfer.files import read_json, write_json

END, BYTES, WORDS = 0, 1, 2


def count_words(text: str) -> int:
    """Words as the paper's harness counts them, empty strings included."""
    return len(re.split(r"\s+", text))


@dataclass(frozen=True)
class PackedCorpus:
    """A pack opened for reading; tokens are memory-mapped, nothing is copied."""

    prefix: Path

    @cached_property
    def info(self) -> dict[str, Any]:
        """Totals: `tokens`, `documents`, `bytes`, `words`; `dtype`, `eos_id`, `vocab_size`, `tokenizer`."""
        return read_json(self.prefix.with_suffix(".json"))

    @cached_property
    def tokens(self) -> NDArray[Any]:
        """All token ids, [tokens], uint16 or uint32."""
        path = self.prefix.with_suffix(".bin")
        if not path.is_file():
            raise UserError(f"{path} does not exist", "run prepare.py first")
        expected = self.info["tokens"] * np.dtype(self.info["dtype"]).itemsize
        if path.stat().st_size != expected:
            raise UserError(
                f"{path} has {path.stat().st_size} bytes, {expected} expected",
                "delete it and run prepare.py again",
            )
        return np.memmap(path, dtype=self.info["dtype"], mode="r")

    @cached_property
    def documents(self) -> NDArray[np.int64]:
        """The index, int64 [documents, 3]: end offset in tokens, UTF-8 bytes, words."""
        return np.load(self.prefix.with_suffix(".docs.npy"))

    @property
    def eos_id(self) -> int:
        """The id of the end-of-text token that closes every document."""
        return int(self.info["eos_id"])

    def iter_documents(self) -> Iterator[NDArray[Any]]:
        """The token ids of each document, without its end-of-text."""
        start = 0
        for end in self.documents[:, END]:
            yield self.tokens[start : end - 1]
            start = int(end)

    def head(self, max_bytes: int | None) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """The first whole documents of at most `max_bytes` UTF-8 bytes (all for None): tokens and their index."""
        count = len(self.documents)
        if max_bytes is not None:
            count = int(np.searchsorted(np.cumsum(self.documents[:, BYTES]), max_bytes, side="right"))
        if count == 0:
            raise UserError(
                f"the first document of {self.prefix} is longer than {max_bytes} bytes",
                "raise the evaluation's size",
            )
        return self.tokens[: self.documents[count - 1, END]], self.documents[:count]


def write_pack(
    prefix: Path,
    documents: Iterable[tuple[str, list[int]]],
    *,
    eos_id: int,
    vocab_size: int,
    tokenizer: str,
) -> dict[str, Any]:
    """Write a pack from (text, token ids) pairs, streaming; returns its totals.

    `tokenizer` is the content hash of the tokenizer that made the ids. Raises UserError for no documents.
    """
    dtype = np.dtype("<u2" if vocab_size <= 1 << 16 else "<u4")
    prefix.parent.mkdir(parents=True, exist_ok=True)
    index: list[tuple[int, int, int]] = []
    position = 0
    with prefix.with_suffix(".bin").open("wb") as file:
        for text, ids in documents:
            file.write(np.asarray([*ids, eos_id], dtype=dtype).tobytes())
            position += len(ids) + 1
            index.append((position, len(text.encode()), count_words(text)))
    if not index:
        raise UserError(f"no documents to write to {prefix}", "check the corpus: it may be empty")
    table = np.asarray(index, dtype=np.int64)
    np.save(prefix.with_suffix(".docs.npy"), table)
    info = {
        "tokens": position,
        "documents": len(index),
        "bytes": int(table[:, BYTES].sum()),
        "words": int(table[:, WORDS].sum()),
        "dtype": dtype.str,
        "eos_id": eos_id,
        "vocab_size": vocab_size,
        "tokenizer": tokenizer,
    }
    write_json(prefix.with_suffix(".json"), info)
    return info
