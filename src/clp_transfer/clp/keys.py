"""Tokens as bytes, so that two vocabularies are compared by what their tokens spell."""

from __future__ import annotations

from functools import cache
from typing import Any

from clp_transfer.errors import UserError


@cache
def byte_alphabet() -> dict[str, int]:
    """GPT-2's byte alphabet: the printable character that stands for each of the 256 byte values."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    shifted = [byte for byte in range(256) if byte not in plain]
    return {chr(b): b for b in plain} | {chr(256 + i): b for i, b in enumerate(shifted)}


def special_ids(tokenizer: Any) -> dict[str, int]:
    """Special tokens by string: `all_special_tokens` and the added tokens marked special."""
    added = {t.content: i for i, t in tokenizer.added_tokens_decoder.items() if t.special}
    named = {token: tokenizer.convert_tokens_to_ids(token) for token in tokenizer.all_special_tokens}
    return {**added, **named}


def token_bytes(tokenizer: Any, name: str) -> dict[int, bytes]:
    """The bytes that every ordinary token of a byte-level BPE spells, by id; special tokens are left out.

    A leading space is part of the bytes, so " Haus" and "Haus" differ. Raises UserError for a vocabulary with
    characters outside the byte alphabet (SentencePiece, WordPiece), naming `name`.
    """
    alphabet, special = byte_alphabet(), set(special_ids(tokenizer).values())
    spelled: dict[int, bytes] = {}
    for token, index in tokenizer.get_vocab().items():
        if index in special:
            continue
        try:
            spelled[index] = bytes(alphabet[character] for character in token)
        except KeyError as error:
            raise UserError(
                f"the tokenizer of {name} is not a byte-level BPE: its token {token!r} has the character {error}",
                "use a source and a helper with byte-level BPE tokenizers (GPT-2, BLOOM, Llama 3, SmolLM, Qwen …)",
            ) from error
    return spelled
