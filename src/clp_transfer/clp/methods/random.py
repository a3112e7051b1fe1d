"""Every new row is drawn from the source's distribution: the paper's baseline for its new rows."""

from __future__ import annotations

import torch
from torch import Tensor

from clp_transfer.clp.methods.problem import Problem, Solution


def solve(problem: Problem) -> Solution:
    """E_t ~ N(μ, diag σ²), mean and standard deviation of the source's rows, per dimension. Needs no helper.

    The distribution with which the original code fills its matrix before the rows are replaced.
    """
    return Solution(draw(problem, len(problem.wanted)))


def draw(problem: Problem, count: int) -> Tensor:
    """So many rows from N(μ, diag σ²), float32 [count, d_s] on the source's device.

    Also what wechsel and focus give a token that they know nothing about.
    """
    mean, deviation = problem.table.spread()
    normal = torch.randn(count, problem.table.width, generator=problem.generator)
    return (mean.cpu() + deviation.cpu() * normal).float().to(problem.source.device)
