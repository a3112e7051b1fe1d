"""CLP, the paper's formula to the letter, in closed form."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from clp_transfer.clp.methods.problem import Problem, Solution

# Weights whose absolute values sum to more than this are far from an average: the row is blown up.
AMPLIFICATION_LIMIT = 10.0
BLOCK = 1024


def solve(problem: Problem) -> Solution:
    """E_t = Σ_o w_to E_o with w_to = cos(h_t, h_o) / Σ_o' cos(h_t, h_o'), over all overlapping tokens o.

    Ostendorff & Rehm 2023, section 3, as their code has it: plain cosines, negative ones kept, normalised by
    their sum. With H̃ the row-normalised helper, it is E_M = H̃_M (H̃_Oᵀ E_O) / (H̃_M H̃_Oᵀ 1), exactly: no
    similarity matrix is needed. Needs a helper.
    """
    known, wanted = normalize(problem.helper.double()), normalize(problem.helper_missing.double())
    totals = wanted @ known.sum(dim=0)
    # A sum of exactly zero has no weights at all: the original's row is then NaN, ours is zero and counted below.
    rows = (wanted @ (known.T @ problem.source.double())) / totals[:, None]
    amplification = (_absolute_cosines(wanted.float(), known.float()) / totals.abs()).nan_to_num(nan=torch.inf)
    bad = int((amplification > AMPLIFICATION_LIMIT).sum())
    warnings = []
    if bad:
        warnings.append(
            f"for {bad:,} of {len(rows):,} new tokens the cosines nearly cancel (their weights' absolute values "
            f"sum to more than {AMPLIFICATION_LIMIT:g}, at most {float(amplification.max()):,.0f}): those rows are "
            "blown up, not averaged. The formula is fragile with this helper; clp-topk and ridge are not."
        )
    diagnostics = {
        "ill_conditioned": bad,
        "amplification_median": float(amplification.median()),
        "amplification_max": float(amplification.max()),
    }
    return Solution(torch.nan_to_num(rows, posinf=0.0, neginf=0.0).float(), diagnostics, warnings)


def _absolute_cosines(wanted: Tensor, known: Tensor) -> Tensor:
    """Σ_o |cos(h_t, h_o)| for each missing token, float64 [missing], in blocks to bound the memory."""
    return torch.cat([(block @ known.T).abs().sum(dim=1).double() for block in wanted.split(BLOCK)])
