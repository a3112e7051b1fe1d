"""The numbers about the data that the report shows."""

from __future__ import annotations

from itertools import permutations
from typing import Any

from clp_transfer.prepare.documents import Document
from clp_transfer.prepare.split import size


def split_statistics(documents: list[Document]) -> dict[str, int]:
    """Documents and UTF-8 bytes of a split."""
    return {"documents": len(documents), "bytes": sum(map(size, documents))}


def pack_statistics(info: dict[str, Any]) -> dict[str, Any]:
    """A pack's totals and its compression.

    `tokens` counts the end-of-text tokens, as the pack does; the two ratios count the text's own tokens only,
    so that they do not depend on how long documents are.
    """
    own = info["tokens"] - info["documents"]
    return {
        **{name: info[name] for name in ("tokens", "documents", "bytes", "words")},
        "bytes_per_token": info["bytes"] / own,
        "tokens_per_word": own / info["words"],
    }


def overlap_statistics(vocabularies: dict[str, set[str]]) -> dict[str, dict[str, Any]]:
    """For every ordered pair of tokenizers, the token strings that both have, exactly equal (paper, section 3)."""
    result = {}
    for (first, of_first), (second, of_second) in permutations(vocabularies.items(), 2):
        shared = len(of_first & of_second)
        result[f"{first}-{second}"] = {
            "shared": shared,
            "of_first": len(of_first),
            "of_second": len(of_second),
            "share_of_second": shared / len(of_second),
        }
    return result
