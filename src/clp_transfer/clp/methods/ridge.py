"""A linear map from the helper's space to the source's, fitted on the tokens that both have."""

from __future__ import annotations

import torch

from clp_transfer.clp.methods.problem import Problem, Solution


def solve(problem: Problem) -> Solution:
    """E_t = μ_E + (h_t − μ_H) W with W = argmin ‖E_O − μ_E − (H_O − μ_H) W‖² + λ‖W‖².

    CLP is also a linear map of the helper's row, but one that nothing fits; this is the fitted one. The penalty
    is λ = `ridge` · trace(XᵀX) / d_h, so that it does not depend on the helper's scale. Needs a helper.
    """
    x, y = problem.helper.double(), problem.source.double()
    mean_x, mean_y = x.mean(dim=0), y.mean(dim=0)
    x, y = x - mean_x, y - mean_y
    gram = x.T @ x
    penalty = problem.options.ridge * gram.diagonal().mean()
    weights = torch.linalg.solve(gram + penalty * torch.eye(len(gram), dtype=gram.dtype), x.T @ y)
    rows = mean_y + (problem.helper_missing.double() - mean_x) @ weights
    explained = 1.0 - float((y - x @ weights).square().sum() / y.square().sum())
    return Solution(rows.float(), {"explained_variance_on_overlap": explained})
