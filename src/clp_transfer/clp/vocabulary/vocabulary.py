"""A tokenizer's vocabulary as what its tokens spell, its special tokens apart."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

from clp_transfer.clp.vocabulary.keys import (
    BYTE_PIECE,
    Key,
    byte_level_key,
    literal_key,
    sentencepiece_key,
    wordpiece_key,
)
from clp_transfer.clp.vocabulary.kinds import Kind, continuation_prefix, kind_of
from clp_transfer.errors import UserError

# In the order of their weight where one token has several.
ROLES = ("eos", "bos", "unk", "pad", "mask", "sep", "cls")


@dataclass(frozen=True)
class Vocabulary:
    """The tokens of one tokenizer.

    `tokenizer`: the transformers tokenizer. `name`: what messages call it, e.g. "the source". `kind`: how it writes
    its tokens. `keys`: what every ordinary token spells, by id. `special`: ids of the special tokens by string
    (`all_special_tokens` and the added tokens marked special). `added`: ids of the added tokens, special or not.
    `roles`: the ids of eos, bos, unk, pad, mask, sep and cls, where the tokenizer has them. `tokens`: every token's
    own string, by id. `size`: the highest id plus one.
    """

    tokenizer: Any = field(repr=False, compare=False)
    name: str
    kind: Kind
    keys: dict[int, Key] = field(repr=False)
    special: dict[str, int] = field(repr=False)
    added: frozenset[int] = field(repr=False)
    roles: dict[str, int]
    tokens: dict[int, str] = field(repr=False)
    size: int

    @classmethod
    def read(cls, tokenizer: Any, name: str) -> Vocabulary:
        """Read a tokenizer's vocabulary; raises UserError for an empty one and for one of an unknown kind."""
        with _no_collection():
            added = {index: token.content for index, token in tokenizer.added_tokens_decoder.items()}
            ids = tokenizer.get_vocab() | {token: index for index, token in added.items()}
            unsorted = {index: token for token, index in ids.items()} | added
            tokens = {index: unsorted[index] for index in sorted(unsorted)}
            if not tokens:
                raise UserError(
                    f"the tokenizer of {name} has no tokens", f"check that {name}'s folder has its tokenizer's files"
                )
            special = _special_ids(tokenizer, ids)
            plain = [token for index, token in tokens.items() if index not in added]
            kind = kind_of(tokenizer, name, plain)
            keys = _keys(kind, tokens, frozenset(added), frozenset(special.values()), continuation_prefix(tokenizer))
        return cls(
            tokenizer, name, kind, keys, special, frozenset(added), _roles(tokenizer, ids), tokens, max(tokens) + 1
        )

    @cached_property
    def ids(self) -> dict[str, int]:
        """The id of every token string."""
        return {token: index for index, token in self.tokens.items()}

    @cached_property
    def gaps(self) -> list[int]:
        """The ids below `size` that no token has, sorted."""
        return [] if len(self.tokens) == self.size else [i for i in range(self.size) if i not in self.tokens]

    @cached_property
    def by_key(self) -> dict[Key, int]:
        """The id of every key; of several ids a literal token goes before a byte-fallback one, then the lowest."""
        order = sorted(self.keys, reverse=True)
        if self.kind is Kind.SENTENCEPIECE:
            order.sort(key=lambda index: BYTE_PIECE.fullmatch(self.tokens[index]) is None)
        return {self.keys[index]: index for index in order}

    @cached_property
    def ambiguous(self) -> int:
        """How many ordinary tokens spell what another one spells, and so are not found by their key."""
        return len(self.keys) - len(self.by_key)

    @cached_property
    def texts(self) -> dict[int, bytes]:
        """The bytes of every ordinary token by id, a word start's space with them."""
        return {index: key.text for index, key in self.keys.items()}

    @cached_property
    def by_text(self) -> dict[bytes, int]:
        """`by_key`, by bytes."""
        return {key.text: index for key, index in self.by_key.items()}


def _keys(
    kind: Kind, tokens: dict[int, str], added: frozenset[int], special: frozenset[int], prefix: str
) -> dict[int, Key]:
    """What the ordinary tokens spell."""
    readers: dict[Kind, Callable[[str], Key]] = {
        Kind.BYTE_LEVEL: byte_level_key,
        Kind.SENTENCEPIECE: sentencepiece_key,
        Kind.WORDPIECE: partial(wordpiece_key, prefix=prefix),
    }
    read = readers[kind]
    keys = {index: read(token) for index, token in tokens.items() if index not in special}
    if kind is Kind.BYTE_LEVEL:
        # Added tokens are looked for in the text itself, before it is turned into the byte alphabet.
        keys |= {index: literal_key(tokens[index]) for index in added - special}
    return keys


def _special_ids(tokenizer: Any, ids: dict[str, int]) -> dict[str, int]:
    """Special tokens by string, sorted by id; a named one that the vocabulary lacks is none."""
    marked = {token.content: index for index, token in tokenizer.added_tokens_decoder.items() if token.special}
    named = {token: ids[token] for token in tokenizer.all_special_tokens if token in ids}
    return dict(sorted((marked | named).items(), key=lambda item: item[1]))


def _roles(tokenizer: Any, ids: dict[str, int]) -> dict[str, int]:
    """The ids of the roles that the tokenizer fills; by string, as `eos_token_id` is unk's for a string it lacks."""
    named = {role: getattr(tokenizer, f"{role}_token", None) for role in ROLES}
    return {role: ids[token] for role, token in named.items() if token in ids}


@contextmanager
def _no_collection() -> Iterator[None]:
    """Keep the garbage collector from walking the growing heap of keys again and again: two thirds of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
