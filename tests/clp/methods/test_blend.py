"""Blend against its two parts, each computed alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from clp_transfer.clp import methods
from clp_transfer.clp.methods.problem import Problem

Make = Callable[..., Problem]


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_rows_lie_between_ridge_and_fvt(make: Make, share: float) -> None:
    problem = make(name="blend", share=share, ridge=0.2)
    fitted, pieces = (methods.get(name)(problem) for name in ("ridge", "fvt"))
    solution = methods.get("blend")(problem)
    torch.testing.assert_close(solution.rows, share * fitted.rows + (1 - share) * pieces.rows)
    assert solution.diagnostics == fitted.diagnostics | pieces.diagnostics
    assert len(solution.diagnostics) == len(fitted.diagnostics) + len(pieces.diagnostics)


def test_a_token_without_pieces_leans_on_the_mean(make: Make) -> None:
    problem = make(name="blend", share=0.5, ridge=0.2)
    bare = [i for i, pieces in enumerate(problem.wanted.pieces) if not pieces]
    assert bare
    expected = 0.5 * methods.get("ridge")(problem).rows[bare] + 0.5 * problem.source.mean(dim=0)
    torch.testing.assert_close(methods.get("blend")(problem).rows[bare], expected)


def test_the_options_of_ridge_apply(make: Make) -> None:
    strong, weak = (methods.get("blend")(make(name="blend", share=1.0, ridge=ridge)).rows for ridge in (1e3, 1e-3))
    assert strong.var(dim=0).sum() < 0.01 * weak.var(dim=0).sum()
