"""Every new row is drawn from the source's distribution: the paper's baseline for its new rows."""

from __future__ import annotations

import torch

from clp_transfer.clp.methods.problem import Problem, Solution


def solve(problem: Problem) -> Solution:
    """E_t ~ N(μ, diag σ²), mean and standard deviation of the source's rows, per dimension. Needs no helper.

    The distribution with which the original code fills its matrix before the rows are replaced.
    """
    std, mean = torch.std_mean(problem.source_all, dim=0)
    draws = torch.randn(len(problem.helper_missing), len(mean), generator=problem.generator)
    return Solution(mean + std * draws)
