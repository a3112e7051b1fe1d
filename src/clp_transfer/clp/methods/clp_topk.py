"""CLP over the nearest tokens only, with a softmax: what the paper's text suggests and its code lacks."""

from __future__ import annotations

import torch
from torch.nn.functional import normalize

from clp_transfer.clp.methods.problem import Problem, Solution

BLOCK = 1024


def solve(problem: Problem) -> Solution:
    """E_t = Σ_{o ∈ top-k} softmax_o(cos(h_t, h_o) / τ) E_o, with k = `top_k` and τ = `temperature`.

    The weighting of WECHSEL (Minixhofer et al. 2022, equation 4; k = 10, τ = 0.1) in the helper's space. All
    weights are positive and sum to one. Needs a helper.
    """
    options = problem.options
    known, wanted = normalize(problem.helper), normalize(problem.helper_missing)
    k = min(options.top_k, len(known))
    rows, nearest = [], []
    for block in wanted.split(BLOCK):
        cosines, neighbours = (block @ known.T).topk(k, dim=1)
        weights = torch.softmax(cosines / options.temperature, dim=1)
        rows.append(torch.einsum("tk,tkd->td", weights, problem.source[neighbours]))
        nearest.append(cosines[:, 0])
    if not rows:
        return Solution(problem.source.new_zeros(0, problem.source.shape[1]))
    return Solution(torch.cat(rows), {"nearest_cosine_median": float(torch.cat(nearest).median())})
