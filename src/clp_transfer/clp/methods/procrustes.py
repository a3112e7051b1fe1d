"""A rotation of the helper's space into the source's, fitted on the tokens that both have."""

from __future__ import annotations

import torch
from torch import Tensor

from clp_transfer.clp.methods.problem import Problem, Solution


def solve(problem: Problem) -> Solution:
    """E_t = μ_E + s (h_t − μ_H) R, with R = U Vᵀ from the singular value decomposition U S Vᵀ of H_cᵀE_c.

    The orthogonal Procrustes problem (Schönemann 1966): of all maps that keep angles, R brings the overlap's centred
    helper rows H_c nearest to its centred source rows E_c. Where the widths differ, R is semi-orthogonal (it embeds
    a narrow helper; of a wide one it keeps the directions that matter most to the source). s = tr(RᵀH_cᵀE_c) / ‖H_cR‖²
    is the scale that fits best given R. It fits far fewer numbers than `ridge`, so it overfits less where the overlap
    is small. Needs a helper.
    """
    x, y = problem.known.helper.double(), problem.source.double()
    mean_x, mean_y = x.mean(dim=0), y.mean(dim=0)
    x, y = x - mean_x, y - mean_y
    product = x.T @ y
    turn = rotation(product)
    turned = x @ turn
    scale = (turn * product).sum() / turned.square().sum().clamp(min=torch.finfo(torch.float64).tiny)
    left = (y - scale * turned).square().sum() / y.square().sum()
    step = (scale * turn).float()
    rows = (problem.wanted.helper - mean_x.float()) @ step + mean_y.float()
    return Solution(rows, {"scale": float(scale), "explained_variance_on_overlap": 1.0 - float(left)})


def rotation(product: Tensor) -> Tensor:
    """U Vᵀ from the singular value decomposition U S Vᵀ of `product` = XᵀY: the rotation that brings X to Y.

    Directions in which the overlap says nothing (singular values of zero) are left out: they map to zero.
    """
    left, size, right = torch.linalg.svd(product, full_matrices=False)
    told = size > size.amax() * max(product.shape) * torch.finfo(product.dtype).eps
    return (left * told) @ right
