"""What a token spells, as bytes: the common language of byte-level, SentencePiece and WordPiece vocabularies."""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from typing import NamedTuple

BYTE_PIECE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
# The ideographs that BERT's pre-tokenizer sets apart, each as a word of its own.
IDEOGRAPHS = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002fa1f]")


class Key(NamedTuple):
    """What a token spells: the bytes without the one leading space that a word start stands for.

    Keys and byte strings match one to one: bytes that begin with a space always have `word_start` True.
    """

    spelled: bytes
    word_start: bool

    @property
    def text(self) -> bytes:
        """The bytes with the word start's space."""
        return b" " + self.spelled if self.word_start else self.spelled


def key_of(text: bytes) -> Key:
    """The key of a byte string, a leading space of which is part of it; the inverse of `Key.text`."""
    return Key(text[1:], True) if text[:1] == b" " else Key(text, False)


@cache
def byte_alphabet() -> dict[str, int]:
    """GPT-2's byte alphabet: the printable character that stands for each of the 256 byte values."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    shifted = [byte for byte in range(256) if byte not in plain]
    return {chr(b): b for b in plain} | {chr(256 + i): b for i, b in enumerate(shifted)}


@cache
def _to_latin1() -> dict[int, str]:
    """A `str.translate` table: alphabet to chr(0..255); the rest of Latin-1 to what Latin-1 cannot encode."""
    return dict.fromkeys(range(256), "\uffff") | {ord(c): chr(byte) for c, byte in byte_alphabet().items()}


@cache
def _from_latin1() -> dict[int, str]:
    """The way back: chr(0..255) to the alphabet."""
    return {byte: character for character, byte in byte_alphabet().items()}


def byte_level_string(text: bytes) -> str:
    """The bytes in the byte alphabet, as a byte-level vocabulary writes them."""
    return text.decode("latin-1").translate(_from_latin1())


def byte_level_key(token: str) -> Key:
    """The key of a byte-level BPE token: "ĠHaus" is (b"Haus", True), "ĠĠ" is (b" ", True).

    A token with a character outside the byte alphabet spells itself, as it does in the ByteLevel decoder.
    """
    try:
        return key_of(token.translate(_to_latin1()).encode("latin-1"))
    except UnicodeEncodeError:
        return literal_key(token)


def literal_key(token: str) -> Key:
    """The key of a token that spells itself, such as an added token of a byte-level vocabulary."""
    return key_of(token.encode("utf-8", "surrogatepass"))


def sentencepiece_key(token: str) -> Key:
    """The key of a SentencePiece token: "▁Haus" is (b"Haus", True), "<0xE4>" (byte fallback) is (b"\\xe4", False)."""
    if token.startswith("<0x") and (byte := BYTE_PIECE.fullmatch(token)):
        return key_of(bytes.fromhex(byte[1]))
    return key_of(token.replace("▁", " ").encode("utf-8", "surrogatepass"))


def wordpiece_key(token: str, prefix: str = "##") -> Key:
    """The key of a WordPiece token: "haus" is (b"haus", True), "##haus" is (b"haus", False).

    Punctuation, symbols and ideographs are written like words ("." and not "##."), because the pre-tokenizer sets
    them apart before the model sees them. In running text they mostly follow without a space ("Haus."), and that
    is how other vocabularies write them, so they are no word starts.
    """
    if token.startswith(prefix) and len(token) > len(prefix):
        return key_of(token[len(prefix) :].encode("utf-8", "surrogatepass"))
    apart = IDEOGRAPHS.fullmatch(token) if token.isalnum() else _is_symbols(token)
    return Key(token.encode("utf-8", "surrogatepass"), not apart)


def _is_symbols(token: str) -> bool:
    """Whether the token consists of punctuation and symbols only."""
    return all(unicodedata.category(character)[0] in "PS" for character in token)
