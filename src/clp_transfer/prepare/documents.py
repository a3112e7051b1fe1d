"""A text on its way through the prepare stage, and which texts are left out."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from clp_transfer.prepare.job import CleanConfig

LONE_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Document:
    """One text with its name in the source; a dictionary's entry also keeps its glosses apart."""

    id: str
    text: str
    glosses: tuple[str, ...] = ()


def digest(text: str) -> bytes:
    """What tells texts apart: 32 bytes."""
    return hashlib.sha256(text.encode()).digest()


def valid(document: Document, clean: CleanConfig, left_out: Counter[str]) -> Document | None:
    """The document if it can be kept, else None, counted in `left_out` under `invalid_utf8`, `empty`, `too_long`.

    Readers decode with `surrogateescape`, so bytes that were not UTF-8 arrive as lone surrogates, as do broken JSON
    escapes: such documents cannot be encoded again, which is how they are found here. With `clean.invalid_utf8` at
    `replace` each becomes U+FFFD, counted under `repaired_utf8`.
    """
    try:
        size = len(document.text.encode())
        document.id.encode()
    except UnicodeEncodeError:
        if clean.invalid_utf8 == "drop":
            left_out["invalid_utf8"] += 1
            return None
        left_out["repaired_utf8"] += 1
        name, text = (LONE_SURROGATE.sub("\ufffd", part) for part in (document.id, document.text))
        document, size = replace(document, id=name, text=text), len(text.encode())
    if not document.text or document.text.isspace():
        left_out["empty"] += 1
        return None
    if size > clean.longest:
        left_out["too_long"] += 1
        return None
    return document


def distinct(documents: Iterable[Document], clean: CleanConfig, left_out: Counter[str]) -> Iterator[Document]:
    """The valid documents whose exact text has not come before; others are counted under `duplicate` too."""
    seen: set[bytes] = set()
    for document in documents:
        kept = valid(document, clean, left_out)
        if kept is None:
            continue
        key = digest(kept.text)
        if key in seen:
            left_out["duplicate"] += 1
        else:
            seen.add(key)
            yield kept
