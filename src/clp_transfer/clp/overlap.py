"""Which target tokens the source has too (paper section 3: the overlap of the vocabularies)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from clp_transfer.clp.keys import special_ids, token_bytes
from clp_transfer.errors import UserError

ROLES = ("eos_token_id", "bos_token_id", "unk_token_id", "pad_token_id")


@dataclass(frozen=True)
class Overlap:
    """Target ids with the source id each copies, and the target ids that the source lacks; all sorted."""

    shared: dict[int, int]
    missing: list[int]
    special: dict[str, str]

    def as_dict(self) -> dict[str, Any]:
        """Counts for the report, and how each special token was matched."""
        return {
            "shared": len(self.shared),
            "missing": len(self.missing),
            "target": len(self.shared) + len(self.missing),
            "special": self.special,
        }


def match(source: Any, target: Any) -> Overlap:
    """Match two tokenizers' vocabularies by the bytes of their tokens, and special tokens by name or role.

    Special tokens are never averaged: same string first, else the source's token of the same role (an end-of-text
    row from the wrong source token costs 0.1 to 0.2 bits per byte). Raises UserError where nothing is shared.
    """
    by_bytes = {spelled: index for index, spelled in sorted(token_bytes(source, "the source").items(), reverse=True)}
    shared: dict[int, int] = {}
    missing: list[int] = []
    for index, spelled in token_bytes(target, "the target").items():
        if spelled in by_bytes:
            shared[index] = by_bytes[spelled]
        else:
            missing.append(index)
    if not shared:
        raise UserError(
            "the source's and the target's vocabularies share no token at all, so nothing can be transferred",
            "check that source= and helper= name the models you mean, and that both tokenizers are of the same kind",
        )
    special = _match_special(source, target, shared, missing)
    return Overlap(dict(sorted(shared.items())), sorted(missing), special)


def _match_special(source: Any, target: Any, shared: dict[int, int], missing: list[int]) -> dict[str, str]:
    """Give every special token of the target its source row; fills `shared`, or `missing` as the last resort."""
    known, how = special_ids(source), {}
    for token, index in special_ids(target).items():
        roles = [r for r in ROLES if getattr(target, r) == index and getattr(source, r) is not None]
        if token in known:
            shared[index], how[token] = known[token], f"same token in the source (id {known[token]})"
        elif roles:
            shared[index], how[token] = (
                getattr(source, roles[0]),
                f"the source's {roles[0].removesuffix('_id')}",
            )
        else:
            missing.append(index)
            how[token] = "made like a missing token: the source has neither its string nor its role"
    return how
