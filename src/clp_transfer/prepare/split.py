"""Train and validation splits by document, decided by each text's hash alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from clp_transfer.errors import UserError
from clp_transfer.prepare.documents import Document


def hash_order(texts: Iterable[Document], seed: int) -> list[Document]:
    """Documents in the order of sha256(seed, text): shuffled, the same whatever order they came in."""

    def place(document: Document) -> bytes:
        return hashlib.sha256(f"{seed}\n{document.text}".encode()).digest()

    return sorted(texts, key=place)


def take_bytes(documents: list[Document], limit: int) -> int:
    """How many of the first documents it takes to reach `limit` UTF-8 bytes (all, where they do not)."""
    total = 0
    for count, document in enumerate(documents):
        if total >= limit:
            return count
        total += size(document)
    return len(documents)


def size(document: Document) -> int:
    """UTF-8 bytes of the text."""
    return len(document.text.encode())


def split(
    documents: Iterable[Document], *, corpus: str, validation_bytes: int, train_bytes: int | None, seed: int
) -> dict[str, list[Document]]:
    """Split into `validation`, the first `validation_bytes` in hash order, and `train`, the rest.

    Whole documents only: each split ends with the document that reaches its size. Texts are expected to be
    distinct, hence none is in both. Raises UserError for an empty corpus, and where validation would take
    more than half of it.
    """
    ordered = hash_order(documents, seed)
    if not ordered:
        raise UserError(f"corpus {corpus} is empty", "check its reader, wheel and member in the data config")
    total = sum(map(size, ordered))
    cut = take_bytes(ordered, validation_bytes)
    taken = sum(map(size, ordered[:cut]))
    if cut == 0 or 2 * taken > total:
        raise UserError(
            f"corpus {corpus} is too small for its split: {len(ordered)} documents of {total} bytes in all, of which "
            f"validation_bytes={validation_bytes} takes {cut} documents of {taken} bytes",
            f"set validation_bytes between 1 and {total // 2} (half of the corpus), or add text",
        )
    rest = ordered[cut:]
    kept = rest if train_bytes is None else rest[: take_bytes(rest, train_bytes)]
    if not kept:
        raise UserError(
            f"corpus {corpus} has no text left to train on with train_bytes={train_bytes}", "raise train_bytes"
        )
    return {"train": kept, "validation": ordered[:cut]}
