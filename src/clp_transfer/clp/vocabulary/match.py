"""Which target tokens the source has too (paper section 3: the overlap of the vocabularies).

Ordinary tokens are compared by what they spell. Special tokens have no spelling; each copies one source row, that of
the same string or of the nearest role, never an average: a wrong row for end-of-text costs 0.1 to 0.2 bits per byte.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import Any

from clp_transfer.clp.vocabulary.keys import Key
from clp_transfer.clp.vocabulary.vocabulary import ROLES, Vocabulary
from clp_transfer.errors import UserError

# The roles that stand in for one that the source lacks, nearest first.
NEAREST = {
    "eos": ("bos", "sep"),
    "bos": ("eos", "cls"),
    "unk": ("pad", "eos"),
    "pad": ("eos", "bos"),
    "mask": ("unk", "eos"),
    "sep": ("eos",),
    "cls": ("bos", "eos"),
}
LAST_RESORT = ("unk", "eos", "bos", "sep", "cls", "pad", "mask")
CLASSES = ("word", "continuation", "number", "punctuation", "bytes", "special")


@dataclass(frozen=True)
class Overlap:
    """How the target's vocabulary lies over the source's.

    `shared`: target id to the source id it copies, special tokens included, sorted by target id. `missing`: the
    target ids that the source lacks, sorted; a special token is among them only where the source has no special
    token at all. `special`: how each special token was matched. `special_ids`: their target ids. `gaps`: target ids
    that no token has. `classes`: counts of shared and missing tokens by class. `ambiguous`: for source and target,
    the tokens that spell what another one spells. `size`: the target's rows without padding. `identical`: the two
    vocabularies are the same, id by id.
    """

    shared: dict[int, int]
    missing: list[int]
    special: dict[str, str]
    special_ids: frozenset[int]
    gaps: list[int]
    classes: dict[str, dict[str, int]]
    ambiguous: dict[str, int]
    size: int
    identical: bool

    def as_dict(self) -> dict[str, Any]:
        """Counts for the report, and how each special token was matched."""
        return {
            "shared": len(self.shared),
            "missing": len(self.missing),
            "target": len(self.shared) + len(self.missing),
            "special": self.special,
            "classes": self.classes,
            "ambiguous": self.ambiguous,
            "gaps": len(self.gaps),
            "identical": self.identical,
        }


def match(source: Vocabulary, target: Vocabulary) -> Overlap:
    """Match two vocabularies of any kinds; raises UserError where no ordinary token is shared."""
    shared = {index: found for index in target.keys if (found := _find(source, target, index)) is not None}
    if not shared:
        raise UserError(
            f"the vocabularies of {source.name} ({source.kind}) and {target.name} ({target.kind}) share no token at "
            "all, so nothing can be transferred",
            "check that source= and helper= name the models you mean",
        )
    special: dict[str, str] = {}
    for token, index in target.special.items():
        found, special[token] = _match_special(source, target, token, index)
        if found is not None:
            shared[index] = found
    special_ids = frozenset(target.special.values())
    missing = sorted(index for index in target.tokens if index not in shared)
    return Overlap(
        shared=dict(sorted(shared.items())),
        missing=missing,
        special=special,
        special_ids=special_ids,
        gaps=target.gaps,
        classes=_count_classes(target, shared),
        ambiguous={"source": source.ambiguous, "target": target.ambiguous},
        size=target.size,
        identical=not missing
        and source.tokens.keys() == shared.keys()
        and all(index == found for index, found in shared.items()),
    )


def _find(source: Vocabulary, target: Vocabulary, index: int) -> int | None:
    """The source's id for an ordinary target token.

    A token of the same string and spelling goes first, so that "<0x41>" and "A", which spell the same, each find
    themselves in a vocabulary of the same kind.
    """
    key, same = target.keys[index], source.ids.get(target.tokens[index])
    if same is not None:
        if source.keys.get(same) == key:
            return same
        if index in target.added and same not in source.keys:
            return same  # marked special in the source only
    return source.by_key.get(key)


def _match_special(source: Vocabulary, target: Vocabulary, token: str, index: int) -> tuple[int | None, str]:
    """The source's id for a special token of the target, and how it was found."""
    roles = [role for role in ROLES if target.roles.get(role) == index]
    if token in source.special:
        return source.special[token], f"same token in the source (id {source.special[token]})"
    for role in roles:
        if role in source.roles:
            return source.roles[role], f"the source's {role}_token {_shown(source, source.roles[role])}"
    if source.ids.get(token) in source.added:
        return source.ids[token], f"same token in the source (id {source.ids[token]}), not marked special there"
    lacks = f"the source has neither this token nor {'its role' if roles else 'a role for it'}"
    for near in (*chain.from_iterable(NEAREST[role] for role in roles), *LAST_RESORT):
        if near in source.roles:
            found = source.roles[near]
            return found, f"substitute: the source's {near}_token {_shown(source, found)}; {lacks}"
    if source.special:
        found = min(source.special.values())
        return found, f"substitute: the source's first special token {_shown(source, found)}; {lacks}"
    return None, "made like a missing token: the source has no special token at all"


def _shown(source: Vocabulary, index: int) -> str:
    """A source token for a message."""
    return f"{source.tokens[index]!r} (id {index})"


def _count_classes(target: Vocabulary, shared: dict[int, int]) -> dict[str, dict[str, int]]:
    """Counts of shared and missing target tokens by class."""
    counts = {name: {"shared": 0, "missing": 0} for name in CLASSES}
    for index, key in target.keys.items():
        counts[class_of(key)]["shared" if index in shared else "missing"] += 1
    for index in target.special.values():
        counts["special"]["shared" if index in shared else "missing"] += 1
    return counts


def class_of(key: Key) -> str:
    """The class of an ordinary token.

    "bytes" is no UTF-8 on its own; "word" and "continuation" have a letter, after a space or not; "number" has a
    digit and no letter; "punctuation" is the rest, white space with it.
    """
    try:
        text = key.spelled.decode()
    except UnicodeDecodeError:
        return "bytes"
    if text.isalpha() or any(character.isalpha() for character in text):
        return "word" if key.word_start else "continuation"
    return "number" if any(character.isnumeric() for character in text) else "punctuation"
