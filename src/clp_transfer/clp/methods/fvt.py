"""Fast vocabulary transfer: a new token is the mean of the pieces that the source would read it as."""

from __future__ import annotations

import torch

from clp_transfer.clp.methods.problem import Problem, Solution


def solve(problem: Problem) -> Solution:
    """E_t = mean of E_s over the source's pieces s of the token's text (Gee et al. 2022). Needs no helper."""
    counts = [len(pieces) for pieces in problem.pieces]
    flat = torch.tensor([p for pieces in problem.pieces for p in pieces], dtype=torch.long)
    owner = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts, dtype=torch.long))
    rows = torch.zeros(len(counts), problem.source_all.shape[1])
    rows.index_add_(0, owner, problem.source_all[flat])
    rows /= torch.tensor(counts).clamp(min=1)[:, None]
    return Solution(rows, {"pieces_per_token": sum(counts) / max(len(counts), 1)})
