"""Packed corpora: documents end to end in one memory-mapped token file, with an index of the documents.

A pack `<prefix>` is three files. `<prefix>.bin`: the token ids, little-endian uint16 or uint32, every document
followed by one end-of-text token. `<prefix>.docs.npy`: int64 [documents, 3]: where the document ends in the
token file (its end-of-text included), its UTF-8 bytes, its words (`re.split(r"\\s+", text)`, as in the paper's
harness). `<prefix>.json`: the totals, the tokenizer's hash and the end-of-text id.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from clp_transfer.errors import UserError
from clp_transfer.files import read_json, sha256_file, write_json

END, BYTES, WORDS = 0, 1, 2
TOTALS = ("tokens", "documents", "bytes", "words")
INDEX = np.dtype("<i8")


def count_words(text: str) -> int:
    """Words as the paper's harness counts them: `len(re.split(r"\\s+", text))`, so empty strings at the ends too."""
    return len(text.split()) + text[:1].isspace() + text[-1:].isspace() or 1


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
        """The index, int64 [documents, 3]: end offset in tokens, UTF-8 bytes, words; memory-mapped too."""
        return np.load(self.prefix.with_suffix(".docs.npy"), mmap_mode="r")

    @property
    def eos_id(self) -> int:
        """The id of the end-of-text token that closes every document."""
        return int(self.info["eos_id"])

    def made_by(self, folder: Path) -> bool:
        """Whether the tokenizer.json in a folder is the one that the pack was made with."""
        file = folder / "tokenizer.json"
        return file.is_file() and sha256_file(file) == self.info["tokenizer"]

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


class PackWriter:
    """Appends documents to a pack, batch by batch; memory does not grow with the pack.

    `totals` are those of documents that an earlier writer has appended and synced: what it wrote after them is cut
    off, and the pack goes on from there. A context manager that closes the files.
    """

    def __init__(
        self, prefix: Path, *, eos_id: int, vocab_size: int, tokenizer: str, totals: dict[str, int] | None = None
    ) -> None:
        self.prefix, self.dtype = prefix, token_dtype(vocab_size)
        self.totals = dict(totals or dict.fromkeys(TOTALS, 0))
        self._eos_id = eos_id
        self._about = {"dtype": self.dtype.str, "eos_id": eos_id, "vocab_size": vocab_size, "tokenizer": tokenizer}
        prefix.parent.mkdir(parents=True, exist_ok=True)
        prefix.with_suffix(".json").unlink(missing_ok=True)  # written last: without it there is no pack
        tokens, index = _sizes(self.totals, self.dtype)
        self._tokens = _open_at(prefix.with_suffix(".bin"), tokens)
        self._index = _open_at(prefix.with_suffix(".docs.npy"), index)

    @staticmethod
    def can_go_on(prefix: Path, totals: dict[str, int], vocab_size: int) -> bool:
        """Whether the files hold everything that `totals` counts."""
        files = prefix.with_suffix(".bin"), prefix.with_suffix(".docs.npy")
        sizes = _sizes(totals, token_dtype(vocab_size))
        return all(file.is_file() and file.stat().st_size >= size for file, size in zip(files, sizes, strict=True))

    def append(self, ids: NDArray[Any], lengths: NDArray[Any], sizes: NDArray[Any], words: NDArray[Any]) -> None:
        """Append documents: their ids end to end, and each one's length in tokens, UTF-8 bytes and words.

        Raises ValueError for an id that the pack's dtype cannot hold.
        """
        if len(ids) and ids.max() > np.iinfo(self.dtype).max:
            raise ValueError(f"token id {ids.max()} in a pack of {self._about['vocab_size']} entries")
        ends = np.cumsum(lengths) + np.arange(1, len(lengths) + 1)
        self._tokens.write(self._closed(ids, ends).data)
        ends += self.totals["tokens"]
        self._index.write(np.stack([ends, sizes, words], axis=1).astype(INDEX).tobytes())
        added = (len(ids) + len(lengths), len(lengths), int(np.sum(sizes)), int(np.sum(words)))
        self.totals = {name: self.totals[name] + count for name, count in zip(TOTALS, added, strict=True)}

    def _closed(self, ids: NDArray[Any], ends: NDArray[np.int64]) -> NDArray[Any]:
        """Ids of documents in the pack's dtype with an end-of-text before each of `ends`, where the next one begins."""
        closed = np.empty(len(ids) + len(ends), self.dtype)
        within = np.ones(len(closed), np.bool_)
        within[ends - 1] = False
        closed[within] = ids
        closed[ends - 1] = self._eos_id
        return closed

    def sync(self) -> None:
        """Flush to the disk: after this, `totals` is a place to go on from."""
        for file in (self._tokens, self._index):
            file.flush()
            os.fsync(file.fileno())

    def finish(self) -> dict[str, Any]:
        """Complete the index, write `<prefix>.json`; returns its content: totals and format.

        Raises UserError for no documents.
        """
        if not self.totals["documents"]:
            raise UserError(f"no documents to write to {self.prefix}", "check the corpus: it may be empty")
        self._index.seek(0)
        self._index.write(_index_header(self.totals["documents"]))
        self.sync()
        info = {**self.totals, **self._about}
        write_json(self.prefix.with_suffix(".json"), info)
        return info

    def __enter__(self) -> PackWriter:
        return self

    def __exit__(self, *error: object) -> None:
        self._tokens.close()
        self._index.close()


def token_dtype(vocab_size: int) -> np.dtype[Any]:
    """The smallest of uint16 and uint32 that holds ids below `vocab_size`."""
    return np.dtype("<u2" if vocab_size <= 1 << 16 else "<u4")


def _index_header(documents: int) -> bytes:
    """The start of an index file; numpy pads it, so its length is the same for any number of documents."""
    file = io.BytesIO()
    about = {"descr": INDEX.str, "fortran_order": False, "shape": (documents, 3)}
    np.lib.format.write_array_header_1_0(file, about)
    return file.getvalue()


def _sizes(totals: dict[str, int], dtype: np.dtype[Any]) -> tuple[int, int]:
    """Bytes of the token file and of the index."""
    index = len(_index_header(0)) + totals["documents"] * 3 * INDEX.itemsize
    return totals["tokens"] * dtype.itemsize, index


def _open_at(path: Path, size: int) -> BinaryIO:
    """Open for writing at `size`: what comes after it is cut off, what is missing (an index's header) is zeros."""
    path.touch()
    file = path.open("r+b")
    file.truncate(size)
    file.seek(size)
    return file


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
    with PackWriter(prefix, eos_id=eos_id, vocab_size=vocab_size, tokenizer=tokenizer) as writer:
        for text, ids in documents:
            one = (np.array([value]) for value in (len(ids), len(text.encode()), count_words(text)))
            writer.append(np.asarray(ids, dtype=np.int64), *one)
        return writer.finish()
