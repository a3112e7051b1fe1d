"""A drawn problem with a source table held in memory, for all methods."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from clp_transfer.clp.job import MethodConfig
from clp_transfer.clp.methods.problem import Problem, Side
from clp_transfer.clp.vocabulary.keys import Key

OVERLAP, MISSING, WIDE, NARROW, ALL = 60, 25, 24, 8, 100


@dataclass
class FakeTable:
    """A `SourceTable` of a tensor that counts how many rows it is asked for."""

    table: Tensor
    read: int = 0

    @property
    def width(self) -> int:
        return self.table.shape[1]

    def rows(self, ids: Tensor) -> Tensor:
        self.read += len(ids)
        return self.table[ids]

    def spread(self) -> tuple[Tensor, Tensor]:
        return self.table.double().mean(dim=0), self.table.double().std(dim=0)

    def moments(self) -> tuple[Tensor, Tensor]:
        return self.table.double().mean(dim=0), torch.cov(self.table.double().T, correction=0)


def side(helper: Tensor, prefix: str, pieces: list[list[int]] | None = None) -> Side:
    keys = [Key(f"{prefix}{i}".encode(), i % 2 == 0) for i in range(len(helper))]
    return Side(helper, keys, lambda: pieces or [[] for _ in keys])


@pytest.fixture
def make() -> Callable[..., Problem]:
    """Makes a problem; options by name. `shift` is the length of the direction that all helper rows share."""

    def build(
        overlap: int = OVERLAP,
        missing: int = MISSING,
        wide: int = WIDE,
        narrow: int = NARROW,
        shift: float = 1.0,
        **options: Any,
    ) -> Problem:
        draw = torch.Generator().manual_seed(0)
        table = torch.randn(max(ALL, overlap), wide, generator=draw)
        common = shift * torch.randn(narrow, generator=draw)
        source_ids = torch.randperm(len(table), generator=draw)[:overlap]
        return Problem(
            known=side(torch.randn(overlap, narrow, generator=draw) + common, "k"),
            wanted=side(
                torch.randn(missing, narrow, generator=draw) + common,
                "w",
                [[i % ALL, (3 * i) % ALL, 7][: i % 4] for i in range(missing)],
            ),
            source=table[source_ids],
            source_ids=source_ids,
            table=FakeTable(table),
            options=MethodConfig(**options),
            generator=torch.Generator().manual_seed(1),
        )

    return build


@pytest.fixture
def problem(make: Callable[..., Problem]) -> Problem:
    return make()


def cosines_of(problem: Problem, centre: bool = False) -> np.ndarray:
    """Float64 [wanted, known]."""
    known, wanted = problem.known.helper.double().numpy(), problem.wanted.helper.double().numpy()
    if centre:
        known, wanted = known - known.mean(axis=0), wanted - known.mean(axis=0)
    known = known / np.linalg.norm(known, axis=1, keepdims=True)
    return (wanted / np.linalg.norm(wanted, axis=1, keepdims=True)) @ known.T


@pytest.fixture
def cosines() -> Callable[..., np.ndarray]:
    return cosines_of


@pytest.fixture
def with_helper() -> Callable[..., Problem]:
    """The problem with other helper rows, and the source's rows cut to as many known tokens."""

    def change(problem: Problem, known: Tensor | None = None, wanted: Tensor | None = None) -> Problem:
        if known is not None:
            size = len(known)
            problem = replace(
                problem,
                known=side(known, "k"),
                source=problem.source[:size],
                source_ids=problem.source_ids[:size],
            )
        return problem if wanted is None else replace(problem, wanted=side(wanted, "w"))

    return change


@pytest.fixture
def from_origins() -> Callable[..., Tensor]:
    """The rows that the weights of `origins(k)` make: equal to `rows` where k covers all of them."""

    def rebuild(problem: Problem, origins: Any) -> Tensor:
        rows = problem.table.rows(origins.ids.clamp(min=0).flatten()).view(*origins.ids.shape, -1)
        assert (origins.weights[origins.ids < 0] == 0).all()
        assert (origins.weights.abs().diff(dim=1) <= 1e-6).all(), "largest first"
        return (origins.weights[:, :, None] * rows).sum(dim=1)

    return rebuild
