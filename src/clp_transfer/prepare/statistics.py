"""The numbers about the data that the report shows."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clp_transfer.packed import count_words
from clp_transfer.prepare.chunks import iter_texts

if TYPE_CHECKING:
    from clp_transfer.prepare.packs import PackTokenizer

SAMPLE_BYTES = 1_000_000


def pack_statistics(info: dict[str, Any]) -> dict[str, Any]:
    """A pack's totals and its compression.

    `tokens` counts the end-of-text tokens, as the pack does; the two ratios count the text's own tokens only,
    so that they do not depend on how long documents are.
    """
    own = info["tokens"] - info["documents"]
    return {
        **{name: info[name] for name in ("tokens", "documents", "bytes", "words", "encoder")},
        "bytes_per_token": info["bytes"] / own,
        "tokens_per_word": own / info["words"],
    }


def compression(texts: Path, tokenizers: dict[str, PackTokenizer]) -> dict[str, dict[str, float]]:
    """Every tokenizer on the same first megabyte of a split: its bytes per token and tokens per word."""
    sample = list(_head(texts))
    size, words = sum(len(text.encode()) for text in sample), sum(map(count_words, sample))
    found = {}
    for name, tokenizer in tokenizers.items():
        tokens = sum(map(len, tokenizer.backend.encode_batch_fast(sample, add_special_tokens=False)))
        found[name] = {"bytes_per_token": size / tokens, "tokens_per_word": tokens / words}
    return found


def _head(texts: Path) -> Iterator[str]:
    size = 0
    for text in iter_texts(texts):
        yield text
        size += len(text.encode())
        if size >= SAMPLE_BYTES:
            return


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
