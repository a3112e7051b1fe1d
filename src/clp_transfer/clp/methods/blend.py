"""The fitted map and the pieces' mean together: each is right where the other is weak."""

from __future__ import annotations

from clp_transfer.clp.methods import fvt, ridge
from clp_transfer.clp.methods.problem import Problem, Solution


def solve(problem: Problem) -> Solution:
    """E_t = a · ridge_t + (1 − a) · fvt_t with a = `share`. Needs a helper; ridge's options apply."""
    fitted, pieces = ridge.solve(problem), fvt.solve(problem)
    share = problem.options.share
    return Solution(
        share * fitted.rows + (1 - share) * pieces.rows,
        fitted.diagnostics | pieces.diagnostics,
        [*fitted.warnings, *pieces.warnings],
    )
