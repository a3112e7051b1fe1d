"""Fast vocabulary transfer: a new token is the mean of the pieces that the source would read it as."""

from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from clp_transfer.clp.methods.problem import Origins, Problem, Solution


def solve(problem: Problem) -> Solution:
    """E_t = mean of E_s over the source's pieces s of the token's text (Gee et al. 2022, section 3). Needs no helper.

    A token that no pieces spell gets the mean of the overlapping rows and is counted.
    """
    pieces = problem.wanted.pieces
    lengths = [len(found) for found in pieces]
    diagnostics = {
        "pieces_per_token": sum(lengths) / max(len(lengths), 1),
        "without_pieces": lengths.count(0),
    }
    return Solution(means(pieces, problem), diagnostics, origins=lambda k: _origins(pieces, k))


def means(pieces: list[list[int]], problem: Problem) -> Tensor:
    """The mean row of each token's pieces, float32 [n, d_s]; the overlap's mean for a token without pieces."""
    device = problem.source.device
    counts = torch.tensor([len(found) for found in pieces], dtype=torch.long)
    flat = torch.tensor([piece for found in pieces for piece in found], dtype=torch.long)
    rows = problem.source.new_zeros(len(pieces), problem.table.width)
    if len(flat):
        ids, position = torch.unique(flat, return_inverse=True)
        used = problem.table.rows(ids).to(device)
        rows = embedding_bag(position.to(device), used, (counts.cumsum(0) - counts).to(device), mode="mean")
    rows[(counts == 0).to(device)] = problem.source.mean(dim=0)
    return rows


def _origins(pieces: list[list[int]], k: int) -> Origins:
    """Each piece's share of the token's pieces."""
    ids, weights = torch.full((len(pieces), k), -1), torch.zeros(len(pieces), k)
    for token, found in enumerate(pieces):
        for column, (piece, times) in enumerate(Counter(found).most_common(k)):
            ids[token, column], weights[token, column] = piece, times / len(found)
    return Origins(ids, weights)
