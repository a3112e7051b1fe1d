"""The transfer methods: how the row of a token that the source lacks is made. One file each."""

from __future__ import annotations

from collections.abc import Callable

from clp_transfer.clp.job import NEEDS_HELPER
from clp_transfer.clp.methods import (
    blend,
    clp,
    clp_topk,
    focus,
    fvt,
    gaussian,
    mean,
    omp,
    own,
    procrustes,
    random,
    ridge,
    wechsel,
)
from clp_transfer.clp.methods.problem import Problem, Solution
from clp_transfer.errors import UserError

Method = Callable[[Problem], Solution]

METHODS: dict[str, Method] = {
    "random": random.solve,
    "mean": mean.solve,
    "gaussian": gaussian.solve,
    "clp": clp.solve,
    "clp-topk": clp_topk.solve,
    "ridge": ridge.solve,
    "procrustes": procrustes.solve,
    "omp": omp.solve,
    "fvt": fvt.solve,
    "blend": blend.solve,
    "wechsel": wechsel.solve,
    "focus": focus.solve,
    "own": own.solve,
}
# Not a transfer: the whole model is drawn anew, nothing of the source's weights is kept.
SCRATCH = "scratch"


def get(name: str) -> Method:
    """The method of that name; raises UserError naming the known ones."""
    if name not in METHODS:
        raise UserError(f"method={name} is unknown", f"choose one of {', '.join(METHODS)}")
    return METHODS[name]


__all__ = ["METHODS", "NEEDS_HELPER", "SCRATCH", "Method", "Problem", "Solution", "get"]
