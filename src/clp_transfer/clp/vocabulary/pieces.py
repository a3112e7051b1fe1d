"""Spell tokens that the source may lack in tokens that it has."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from clp_transfer.clp.vocabulary.keys import Key, byte_level_string, wordpiece_key
from clp_transfer.clp.vocabulary.kinds import Kind
from clp_transfer.clp.vocabulary.vocabulary import Vocabulary


def segment(source: Vocabulary, keys: Sequence[Key], *, without_whole: bool = False) -> list[list[int]]:
    """For each key the source ids that spell exactly its bytes; an empty list where the source cannot.

    (A WordPiece source has no token for the space before punctuation; there it is left out.)
    First as the source's own tokenizer reads the text. Where that does not spell the bytes (a cut character, a
    normaliser that changes the text, a space put in front), as its model alone does; then the longest tokens from
    left to right. With `without_whole` no token that spells a whole key is used: it is cut as if the source lacked it.
    """
    found: dict[int, list[int]] = {}
    # A tokenizer that has the whole token would read just that.
    pending = [i for i, key in enumerate(keys) if not (without_whole and key in source.by_key)]
    for read in _readers(source):
        readings = zip(pending, read([keys[i].text for i in pending]), strict=True)
        found |= {i: ids for i, ids in readings if _spells(source, ids, keys[i].text)}
        pending = [i for i in pending if i not in found]
    return [found.get(i) or _longest(source, key.text, without_whole) for i, key in enumerate(keys)]


def _spells(source: Vocabulary, ids: list[int], text: bytes) -> bool:
    """Whether ordinary tokens only, and exactly these bytes."""
    texts = source.texts
    try:
        return b"".join([texts[index] for index in ids]) == text
    except KeyError:  # a special token, such as unk
        return False


Reader = Callable[[list[bytes]], Iterable[list[int]]]


def _readers(source: Vocabulary) -> list[Reader]:
    """The source's own ways to read a text, best first; each returns anything where it cannot.

    WordPiece needs none: its model does what `_longest` does. SentencePiece models read the text in one go, with ▁
    for spaces; their tokenizers would put a space before every text.
    """
    tokenizer = source.tokenizer
    backend: Any = getattr(tokenizer, "backend_tokenizer", None)

    def in_python(texts: list[bytes]) -> Iterable[list[int]]:
        for text in texts:
            yield tokenizer.convert_tokens_to_ids(tokenizer.tokenize(text.decode("utf-8", "replace")))

    def by_tokenizer(texts: list[bytes]) -> Iterable[list[int]]:
        readable = [text.decode("utf-8", "replace") for text in texts]
        if backend.padding is None and backend.truncation is None:
            return [reading.ids for reading in backend.encode_batch_fast(readable, add_special_tokens=False)]
        # Half as fast, but turns off the padding and truncation that a tokenizer's file may carry.
        return tokenizer(readable, add_special_tokens=False)["input_ids"] if texts else []

    def by_model(texts: list[bytes]) -> Iterable[list[int]]:
        for text in texts:
            try:
                yield [piece.id for piece in backend.model.tokenize(_written(source.kind, text))]
            except Exception:  # the library's only class of error: no token for this text and no unk
                yield []

    if source.kind is Kind.WORDPIECE:
        return []
    if backend is None:
        return [in_python]
    return [by_tokenizer, by_model] if source.kind is Kind.BYTE_LEVEL else [by_model]


def _written(kind: Kind, text: bytes) -> str:
    """The text as the tokenizer's model is given it."""
    return byte_level_string(text) if kind is Kind.BYTE_LEVEL else text.decode("utf-8", "replace").replace(" ", "▁")


def _longest(source: Vocabulary, text: bytes, without_whole: bool) -> list[int]:
    """The longest tokens from left to right that spell the text, or else an empty list."""
    pieces = _walk(source.by_text, text, len(text) - without_whole)
    if not pieces and source.kind is Kind.WORDPIECE and text[:1] == b" ":
        # A space is no token there, and none is marked before a bracket: " (" is read as "(".
        rest = text[1:]
        if not wordpiece_key(rest.decode("utf-8", "replace")[:1]).word_start:
            return _walk(source.by_text, rest, len(rest))
    return pieces


def _walk(by_text: dict[bytes, int], text: bytes, longest: int) -> list[int]:
    """The longest token at each place that leaves a rest which can be spelled too; none is longer than `longest`."""
    size = len(text)
    end_at = [0] * size + [size]  # 0: the text cannot be spelled from here on
    for start in range(size - 1, -1, -1):
        for end in range(min(size, start + longest), start, -1):
            if end_at[end] and text[start:end] in by_text:
                end_at[start] = end
                break
    pieces, start = [], 0
    while start < size:
        end = end_at[start]
        if not end:
            return []
        pieces.append(by_text[text[start:end]])
        start = end
    return pieces
