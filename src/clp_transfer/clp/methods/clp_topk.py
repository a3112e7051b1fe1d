"""CLP over the nearest tokens only, with a softmax: what the paper's text suggests and its code lacks."""

from __future__ import annotations

from dataclasses import replace

from clp_transfer.clp.methods import clp
from clp_transfer.clp.methods.problem import Problem, Solution

NEAREST = 10


def solve(problem: Problem) -> Solution:
    """E_t = Σ_{o ∈ top-k} softmax_o(cos(h_t, h_o) / τ) E_o, with k = `top_k` (10) and τ = `temperature`.

    The weighting of WECHSEL (Minixhofer et al. 2022, equation 4; k = 10, τ = 0.1) in the helper's space: `clp` with
    `weighting=softmax`. All weights are positive and sum to one. Needs a helper. Option: `centre`.
    """
    options = problem.options
    options = replace(options, weighting="softmax", top_k=NEAREST if options.top_k is None else options.top_k)
    return clp.solve(replace(problem, options=options))
