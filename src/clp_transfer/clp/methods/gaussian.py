"""Every new row is drawn near the source's mean, along the directions in which its rows vary."""

from __future__ import annotations

import torch
from torch import Tensor

from clp_transfer.clp.methods.problem import Problem, Solution


def solve(problem: Problem) -> Solution:
    """E_t = μ + c · L z with L Lᵀ = Σ, z ~ N(0, I), c = `shrink`; μ and Σ are the source's moments (Hewitt 2021).

    A row at the mean bounds how much a new token can change the model's predictions; the noise tells tokens apart.
    Hewitt draws with covariance 1e-5 Σ (shrink = 0.00316), transformers' `mean_resizing` with 1e-9 Σ (0.0000316);
    1 draws from the source's own distribution. Needs no helper.
    """
    mean, covariance = problem.table.moments()
    normal = torch.randn(len(problem.wanted), problem.table.width, generator=problem.generator)
    root = (problem.options.shrink * _root(covariance)).float().to(problem.source.device)
    return Solution(normal.to(root.device) @ root.T + mean.float().to(root.device))


def _root(covariance: Tensor) -> Tensor:
    """L with L Lᵀ = Σ: Cholesky's, or where Σ has no full rank (fewer tokens than dimensions), the symmetric one."""
    root, failed = torch.linalg.cholesky_ex(covariance)
    if not failed:
        return root
    values, vectors = torch.linalg.eigh(covariance)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T
