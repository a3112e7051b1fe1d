"""No transfer at all: the source is kept with its own tokenizer, to be trained on as it is."""

from __future__ import annotations

from clp_transfer.clp.methods.problem import Problem, Solution
from clp_transfer.errors import UserError

SHOWN = 3


def solve(problem: Problem) -> Solution:
    """Refuse to make a row: with the source's own tokenizer there is none to make, and this is not asked.

    Raises UserError that names the first tokens which the source lacks.
    """
    spelled = [key.spelled.decode(errors="replace") for key in problem.wanted.keys[:SHOWN]]
    raise UserError(
        f"method=own copies the source and makes no rows, but the source lacks {len(problem.wanted):,} of the "
        f"target's tokens: {', '.join(map(repr, spelled))}{', …' if len(problem.wanted) > SHOWN else ''}",
        "set tokenizer= (and pack=) to the source's own tokenizer, or choose a method that makes rows: method=fvt",
    )
