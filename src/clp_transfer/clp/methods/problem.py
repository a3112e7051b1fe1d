"""The one interface of all transfer methods: what they are given and what they return."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor

from clp_transfer.clp.job import MethodConfig
from clp_transfer.clp.vocabulary.keys import Key


class SourceTable(Protocol):
    """One of the source's tables (input or head), all its real tokens; padding rows take no part."""

    @property
    def width(self) -> int:
        """d_s."""

    def rows(self, ids: Tensor) -> Tensor:
        """The rows of these source ids (int64 [n]), float32 [n, d_s]; read from the disk when asked for."""

    def spread(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of all real rows, per dimension, [d_s] each, float64; read in blocks."""

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean [d_s] and covariance [d_s, d_s] of all real rows, float64; read in blocks."""


@dataclass(frozen=True)
class Side:
    """Some target tokens, every field in the same order.

    `helper`: float32 [n, d_h], the helper's rows (width 0 without a helper). `keys`: what the tokens spell.
    `segment` gives for each token the source ids that spell it without using the token itself (an overlapping
    token is cut as if the source lacked it); asked for only by methods that need it. `counts`: float32 [n],
    how often the token occurs in the target text, None where no text is given.
    """

    helper: Tensor
    keys: list[Key]
    segment: Callable[[], list[list[int]]]
    counts: Tensor | None = None

    def __len__(self) -> int:
        return len(self.helper)

    @cached_property
    def pieces(self) -> list[list[int]]:
        """For each token the source ids that spell it; an empty list where nothing does."""
        return self.segment()

    def take(self, index: Tensor) -> Side:
        """The tokens at these positions (int64 [m])."""
        chosen = index.tolist()
        return Side(
            helper=self.helper[index],
            keys=[self.keys[i] for i in chosen],
            segment=lambda: [self.pieces[i] for i in chosen],
            counts=None if self.counts is None else self.counts[index],
        )


@dataclass(frozen=True)
class Problem:
    """Make one source-space row for each wanted target token.

    `known`: the overlapping tokens, with `source` their rows (float32 [known, d_s]) and `source_ids` their ids in
    the source (int64 [known]). `wanted`: the tokens to make. `table`: all of the source's rows. `generator` (on the
    CPU) drives every random draw. `text`: target-language text for the methods that read some, as a callable that
    yields documents; None where none is given.
    """

    known: Side
    wanted: Side
    source: Tensor
    source_ids: Tensor
    table: SourceTable
    options: MethodConfig
    generator: torch.Generator
    text: Callable[[], Any] | None = None

    def hide(self, hidden: Tensor) -> Problem:
        """The same problem with some overlapping tokens (int64 positions in `known`) as the only wanted ones."""
        kept = torch.ones(len(self.known), dtype=torch.bool)
        kept[hidden] = False
        keep = kept.nonzero().flatten()
        return replace(
            self,
            known=self.known.take(keep),
            wanted=self.known.take(hidden),
            source=self.source[keep],
            source_ids=self.source_ids[keep],
        )


@dataclass(frozen=True)
class Origins:
    """From which source tokens rows were made: `ids` (source ids) and `weights`, both [n, k], id -1 for none.

    The weights are those with which the source's rows entered, largest in absolute value first.
    """

    ids: Tensor
    weights: Tensor


@dataclass(frozen=True)
class Solution:
    """`rows`: float32 [wanted, d_s]; diagnostics for the report; warnings for the log and the report.

    `origins(k)` tells the k source tokens with the largest weights for each wanted token; None for a method whose
    rows are no combination of source rows.
    """

    rows: Tensor
    diagnostics: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    origins: Callable[[int], Origins] | None = None
