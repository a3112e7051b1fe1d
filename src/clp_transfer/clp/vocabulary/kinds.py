"""How a vocabulary writes its tokens: in the byte alphabet (Ġ), as SentencePiece (▁) or as WordPiece (##)."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from enum import StrEnum
from typing import Any

from clp_transfer.clp.vocabulary.keys import byte_alphabet
from clp_transfer.errors import UserError
from clp_transfer.json_strings import json_strings

CONTINUATION = re.compile(r"##[^\W_]")  # "##" alone and "###" are Markdown headings in other vocabularies


class Kind(StrEnum):
    """The three ways to write a token that are understood."""

    BYTE_LEVEL = "byte-level"
    SENTENCEPIECE = "SentencePiece"
    WORDPIECE = "WordPiece"


def kind_of(tokenizer: Any, name: str, tokens: Collection[str]) -> Kind:
    """The kind of a tokenizer's vocabulary; `tokens` are its ordinary tokens, without the added ones.

    A fast tokenizer says it by its parts; where it does not, or the tokenizer is written in Python, the tokens do.
    Raises UserError, with `name` and some of the tokens, where none of the kinds fits.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    suffix = getattr(getattr(backend, "model", None), "end_of_word_suffix", None)
    kind = None if suffix else _kind_by_parts(backend) or _kind_by_tokens(tokens)
    if kind is None:
        shown = ", ".join(repr(token) for token in _sample(tokens)) or "none at all"
        marks = f"it marks the end of a word ({suffix!r}); " if suffix else ""
        raise UserError(
            f"the tokenizer of {name} is of an unknown kind: {marks}its tokens show no word starts in a way that is "
            f"understood (Ġ of byte-level BPE, ▁ of SentencePiece, ## of WordPiece); some of them: {shown}",
            f"use a model with a tokenizer of one of these kinds as {name}",
        )
    return kind


def continuation_prefix(tokenizer: Any) -> str:
    """What a WordPiece vocabulary writes before a token that continues a word: "##", unless the model says else."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    return getattr(getattr(backend, "model", None), "continuing_subword_prefix", None) or "##"


def _kind_by_parts(backend: Any) -> Kind | None:
    """The kind by a `tokenizers.Tokenizer`'s model, normaliser, pre-tokenizer and decoder; None if they are silent, or
    where there is no such tokenizer.

    The parts' pickled states are their JSON; the whole tokenizer's would carry its vocabulary and merges too.
    """
    if backend is None:
        return None
    model = backend.model
    parts = [backend.normalizer, backend.pre_tokenizer, backend.decoder]
    found = {value for part in parts if part is not None for value in json_strings(json.loads(part.__getstate__()))}
    if type(model).__name__ == "WordPiece" or getattr(model, "continuing_subword_prefix", None):
        return Kind.WORDPIECE
    if "ByteLevel" in found:
        return Kind.BYTE_LEVEL
    if "Metaspace" in found or "▁" in found or getattr(model, "byte_fallback", False):
        return Kind.SENTENCEPIECE
    return None


def _kind_by_tokens(tokens: Collection[str]) -> Kind | None:
    """The kind by the marks of the tokens themselves."""
    starts = sum(token.startswith("Ġ") for token in tokens)
    pieces = sum(token.startswith("▁") for token in tokens)
    continuations = sum(CONTINUATION.match(token) is not None for token in tokens)
    readable = set().union(*tokens) <= byte_alphabet().keys()
    if readable and starts > continuations:
        return Kind.BYTE_LEVEL
    if pieces > continuations:
        return Kind.SENTENCEPIECE
    # A few stray ones are in any large vocabulary; in a WordPiece one they are a fifth.
    if continuations > len(tokens) / 100:
        return Kind.WORDPIECE
    if readable and byte_alphabet().keys() <= set(tokens):
        return Kind.BYTE_LEVEL  # bytes only
    return None


def _sample(tokens: Collection[str], count: int = 8) -> list[str]:
    """Some tokens, spread over the vocabulary."""
    listed = list(tokens)
    return listed[:: max(1, len(listed) // count)][:count]
