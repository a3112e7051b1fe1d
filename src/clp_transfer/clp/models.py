"""The models that a transfer reads, opened without being built: tables, tokenizers, vocabularies, their overlap."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from clp_transfer.clp.checkpoint.layout import Layout, find_layout
from clp_transfer.clp.checkpoint.locate import locate
from clp_transfer.clp.checkpoint.table import Table
from clp_transfer.clp.checkpoint.tokenizer import load_tokenizer, same_tokenizer
from clp_transfer.clp.checkpoint.weights import Weights
from clp_transfer.clp.vocabulary.keys import Key
from clp_transfer.clp.vocabulary.match import Overlap, match
from clp_transfer.clp.vocabulary.pieces import segment
from clp_transfer.clp.vocabulary.vocabulary import Vocabulary
from clp_transfer.errors import UserError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Model:
    """A model folder whose tensors are read one by one.

    `role` is what messages call it: "the source", "the helper". `name`: its hub id, or its folder's name.
    """

    folder: Path
    role: str
    name: str
    trust_remote_code: bool = False

    @classmethod
    def open(cls, name: str | Path, role: str, **where: Any) -> Model:
        """Find a model by folder, GGUF file or hub id; `where` as for `locate`. Raises UserError where it is none."""
        folder = locate(name, **where)
        known_as = folder.name if Path(name).expanduser().exists() else str(name)
        return cls(folder, role, known_as, where.get("trust_remote_code", False))

    @cached_property
    def weights(self) -> Weights:
        """The stored tensors."""
        return Weights(self.folder)

    @cached_property
    def layout(self) -> Layout:
        """Which of them are tables."""
        return find_layout(self.folder, self.weights, self.trust_remote_code)

    @cached_property
    def tokenizer(self) -> Any:
        """The model's own tokenizer."""
        return load_tokenizer(self.folder, self.trust_remote_code)

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The tokenizer's vocabulary."""
        return Vocabulary.read(self.tokenizer, self.role)

    def table(self, name: str, size: int | None = None) -> Table:
        """One of its tables; raises UserError where the tokenizer has more tokens than it has rows.

        `size`: how many tokens that are, where it is known; None: counted in the tokenizer.
        """
        return Table(self.weights, name, self.vocabulary.size if size is None else size)


@dataclass(frozen=True)
class Ingredients:
    """What a transfer starts from: a source, any number of helpers, and the target's tokenizer with its folder."""

    source: Model
    helpers: tuple[Model, ...]
    tokenizer_folder: Path
    target: Vocabulary

    @classmethod
    def open(
        cls,
        source: str | Path,
        helper: str | Path | Sequence[str | Path] | None = None,
        tokenizer: str | Path | None = None,
        *,
        revision: str | None = None,
        **where: Any,
    ) -> Ingredients:
        """Open them all. The target's tokenizer is the helpers' own unless `tokenizer` names a folder or hub id.

        `revision` is the source's on the hub; `where` (trust_remote_code, cache) holds for all.

        Raises UserError where a helper's tokenizer is not the target's, or where nothing gives a tokenizer.
        """
        names = [helper] if isinstance(helper, str | Path) else list(helper or [])
        helpers = tuple(Model.open(name, "the helper", **where) for name in names)
        src = Model.open(source, "the source", revision=revision, **where)
        if tokenizer is None and not helpers:
            raise UserError(
                "there is neither a helper nor a tokenizer, so the target's vocabulary is not known",
                "set helper=… (a model), or for a method without a helper tokenizer=… (a folder or hub id)",
            )
        folder = helpers[0].folder if tokenizer is None else _tokenizer_folder(tokenizer, where)
        loaded = helpers[0].tokenizer if tokenizer is None else load_tokenizer(folder, src.trust_remote_code)
        for one in helpers:
            if one.tokenizer is not loaded and not same_tokenizer(one.tokenizer, loaded):
                raise UserError(
                    f"the helper {one.folder} does not have the target's tokenizer {folder}",
                    "train the helper with the target's tokenizer, or take the helper's own as the target's",
                )
        return cls(src, helpers, folder, Vocabulary.read(loaded, "the target"))

    @cached_property
    def overlap(self) -> Overlap:
        """Which target tokens the source has too."""
        return match(self.source.vocabulary, self.target)

    @cached_property
    def known(self) -> list[int]:
        """The overlapping target tokens: ordinary ones, and special ones that are the same string in the source.

        Other special tokens copy a row too, but one that tells nothing of what a row should be.
        """
        foreign = {index for token, index in self.target.special.items() if token not in self.source.vocabulary.special}
        return [index for index in self.overlap.shared if index not in foreign]

    def keys(self, ids: list[int]) -> list[Key]:
        """What these target tokens spell; a special one that had to be made spells nothing."""
        return [self.target.keys.get(index, Key(b"", False)) for index in ids]

    @cached_property
    def missing_pieces(self) -> list[list[int]]:
        """For each missing token the source ids that spell it."""
        return segment(self.source.vocabulary, self.keys(self.overlap.missing))

    @cached_property
    def known_pieces(self) -> list[list[int]]:
        """For each overlapping token the source ids that spell it without itself."""
        return segment(self.source.vocabulary, self.keys(self.known), without_whole=True)

    def tables(self) -> list[str]:
        """`input`, and `head` where the source has one of its own."""
        return ["input", "head"] if self.source.layout.head is not None else ["input"]

    def helper_rows(self, table: str) -> Tensor:
        """The helpers' rows side by side, float32 [V_t, d_h]: of the head where a helper has one, else of the input.

        Each helper is divided by its rows' mean norm, so that none outweighs the others. Width 0 without a helper.
        """
        found = []
        for helper in self.helpers:
            name = helper.layout.head if table == "head" and helper.layout.head else helper.layout.input
            rows = helper.table(name, self.target.size).rows(torch.arange(self.target.size))
            found.append(rows / rows.norm(dim=1).mean().clamp(min=1e-30) if len(self.helpers) > 1 else rows)
        if len(found) < 2:  # a copy of a large table takes its time
            return found[0] if found else torch.zeros(self.target.size, 0)
        return torch.cat(found, dim=1)


def _tokenizer_folder(tokenizer: str | Path, where: dict[str, Any]) -> Path:
    """A folder with a tokenizer (no model needed), else a hub model's."""
    path = Path(tokenizer).expanduser()
    return path if path.is_dir() else locate(tokenizer, **where)
