"""Rows from auxiliary vectors: neighbours in a space that is not the helper's, a draw where there is no vector."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from clp_transfer.clp.methods.neighbours import unit
from clp_transfer.clp.methods.problem import Origins, Problem, Solution
from clp_transfer.clp.methods.random import draw
from clp_transfer.clp.methods.weighting import Weighting, average, padded

INSTALL = "install the optional packages: pip install 'clp-transfer[vectors]'"


@dataclass(frozen=True)
class Vectors:
    """Vectors of one side's tokens: float32 [n, d]; a row of zeros where a token has none."""

    table: Tensor

    @property
    def found(self) -> Tensor:
        """The positions of the tokens that have a vector, int64."""
        return self.table.abs().amax(dim=1).nonzero().flatten() if self.table.numel() else torch.zeros(0).long()


def transfer(problem: Problem, known: Vectors, wanted: Vectors, how: Weighting) -> Solution:
    """Rows averaged over the known tokens by the cosines of their vectors; N(μ, diag σ²) for tokens without one.

    At least one known token must have a vector.
    """
    device = problem.source.device
    have, with_vector = known.found.to(device), wanted.found.to(device)
    tables = unit(known.table.to(device)[have], wanted.table.to(device)[with_vector])
    made = average(*tables, problem.source[have], problem.source_ids[have], how)
    rows = made.rows.new_empty(len(problem.wanted), made.rows.shape[1])
    rows[with_vector] = made.rows
    without = torch.ones(len(rows), dtype=torch.bool, device=device)
    without[with_vector] = False
    if without.any():
        rows[without] = draw(problem, int(without.sum()))

    def origins(k: int) -> Origins:
        ids, weights = torch.full((len(rows), k), -1, device=device), rows.new_zeros(len(rows), k)
        found = padded(made.origins(k), k)
        ids[with_vector], weights[with_vector] = found.ids, found.weights
        return Origins(ids, weights)

    diagnostics = {
        "known_with_vector": len(have),
        "drawn": len(rows) - len(with_vector),
        "nearest_cosine_median": float(made.nearest.median()) if len(with_vector) else None,
    }
    return Solution(rows, diagnostics, _warnings(len(rows) - len(with_vector), len(rows)), origins)


def _warnings(drawn: int, tokens: int) -> list[str]:
    if 2 * drawn <= tokens:
        return []
    return [f"{drawn:,} of {tokens:,} new tokens have no auxiliary vector: their rows are drawn at random"]
