"""Row norms: new rows as long as the source's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from clp_transfer.clp.methods.problem import Origins, Problem, Solution


def calibrated(solution: Solution, problem: Problem) -> Solution:
    """Each row scaled to the mean norm of the overlapping source rows, its origins' weights by the same factor.

    A row of zeros stays zero.

    Averages are shorter than what they average. That is not always a fault: where the source's rows share a mean,
    a short row is near it, and scaling it up was measured to hurt.
    """
    length = solution.rows.norm(dim=1, keepdim=True)
    factor = (problem.source.norm(dim=1).mean() / length).nan_to_num(0.0, 0.0, 0.0)

    def scaled(tell: Callable[[int], Origins], k: int) -> Origins:
        found = tell(k)
        return Origins(found.ids, found.weights * factor.to(found.weights))

    origins = None if solution.origins is None else partial(scaled, solution.origins)
    return replace(solution, rows=solution.rows * factor, origins=origins)
