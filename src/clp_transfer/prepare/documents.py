"""A text on its way through the prepare stage, and which texts are left out."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Document:
    """One text with its name in the source; a dictionary's entry also keeps its glosses apart."""

    id: str
    text: str
    glosses: tuple[str, ...] = ()


def clean(documents: Iterable[Document], left_out: Counter[str]) -> Iterator[Document]:
    """Yield the documents that are valid, not blank, and whose exact text has not come before.

    Readers decode with `surrogateescape`, so bytes that were not UTF-8 arrive as lone surrogates, as do
    broken JSON escapes: such documents cannot be encoded again, which is how they are found here. What is
    dropped is counted in `left_out` under `invalid_utf8`, `empty` and `duplicate`.
    """
    seen: set[bytes] = set()
    for document in documents:
        try:
            document.id.encode()
            digest = hashlib.sha256(document.text.encode()).digest()
        except UnicodeEncodeError:
            left_out["invalid_utf8"] += 1
            continue
        if not document.text.strip():
            left_out["empty"] += 1
        elif digest in seen:
            left_out["duplicate"] += 1
        else:
            seen.add(digest)
            yield document
