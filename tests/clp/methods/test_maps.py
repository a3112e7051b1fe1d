"""Procrustes and omp against float64 computations of their own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from clp_transfer.clp import methods
from clp_transfer.clp.methods import omp
from clp_transfer.clp.methods.problem import Problem

Make = Callable[..., Problem]


def rotated(make: Make, narrow: int, wide: int, noise: float) -> tuple[Problem, torch.Tensor]:
    """The source is the helper turned, scaled, moved and blurred; also what the wanted rows should be."""
    problem = make(overlap=400, narrow=narrow, wide=wide)
    draw = torch.Generator().manual_seed(3)
    big, small = max(narrow, wide), min(narrow, wide)
    turn = torch.linalg.qr(torch.randn(big, small, generator=draw))[0]
    turn = turn if narrow >= wide else turn.T
    truth = 3.0 * problem.wanted.helper @ turn + 5.0
    source = 3.0 * problem.known.helper @ turn + 5.0 + noise * torch.randn(400, wide, generator=draw)
    return replace(problem, source=source), truth


@pytest.mark.parametrize(("narrow", "wide"), [(24, 24), (8, 24)])
def test_procrustes_recovers_a_known_rotation(make: Make, narrow: int, wide: int) -> None:
    """With noise: the inverse rotation (a bug seen elsewhere) has cosines near zero with the truth."""
    problem, truth = rotated(make, narrow, wide, noise=0.3)
    solution = methods.get("procrustes")(problem)
    made = solution.rows
    cosines = torch.nn.functional.cosine_similarity(made - 5.0, truth - 5.0)
    assert cosines.min() > 0.995
    assert solution.diagnostics["scale"] == pytest.approx(3.0, rel=0.02)
    exact, truth = rotated(make, narrow, wide, noise=0.0)
    torch.testing.assert_close(methods.get("procrustes")(exact).rows, truth, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("narrow", "wide"), [(24, 24), (8, 24), (24, 8)])
def test_procrustes_is_the_textbook_solution(make: Make, narrow: int, wide: int) -> None:
    problem = make(narrow=narrow, wide=wide)
    x, y = problem.known.helper.double().numpy(), problem.source.double().numpy()
    mx, my = x.mean(0), y.mean(0)
    u, _, vt = np.linalg.svd((x - mx).T @ (y - my), full_matrices=False)
    turned = (x - mx) @ u @ vt
    scale = (turned * (y - my)).sum() / (turned**2).sum()
    expected = my + scale * (problem.wanted.helper.double().numpy() - mx) @ u @ vt
    solution = methods.get("procrustes")(problem)
    np.testing.assert_allclose(solution.rows.numpy(), expected, rtol=1e-4, atol=1e-5)
    explained = 1 - ((y - my - scale * turned) ** 2).sum() / ((y - my) ** 2).sum()
    assert solution.diagnostics["explained_variance_on_overlap"] == pytest.approx(explained)


def test_procrustes_with_fewer_tokens_than_dimensions(make: Make, with_helper: Callable[..., Problem]) -> None:
    problem = make(narrow=24)
    rows = methods.get("procrustes")(with_helper(problem, known=problem.known.helper[:6])).rows
    centred = rows - problem.source[:6].mean(0)
    assert torch.linalg.matrix_rank(centred, rtol=1e-4) <= 5


def pursuit(dictionary: np.ndarray, vector: np.ndarray, atoms: int) -> dict[int, float]:
    """Orthogonal matching pursuit from its definition, all coefficients fitted anew after each choice."""
    chosen: list[int] = []
    residual, coefficients = vector.copy(), np.zeros(0)
    for _ in range(atoms):
        chosen.append(int(np.abs(dictionary @ residual).argmax()))
        coefficients = np.linalg.lstsq(dictionary[chosen].T, vector, rcond=None)[0]
        residual = vector - coefficients @ dictionary[chosen]
    return dict(zip(chosen, coefficients, strict=True))


@pytest.mark.parametrize("shift", [0.0, 3.0])
@pytest.mark.parametrize("atoms", [1, 12])
def test_omp_is_the_pursuit_of_each_token(make: Make, shift: float, atoms: int) -> None:
    problem = make(overlap=200, missing=40, narrow=48, shift=shift, atoms=atoms)
    solution = methods.get("omp")(problem)
    assert solution.origins is not None
    origins = solution.origins(atoms)
    known, source = problem.known.helper.double().numpy(), problem.source.double().numpy()
    ids = problem.source_ids.tolist()
    for token, vector in enumerate(problem.wanted.helper.double().numpy()):
        expected = pursuit(known, vector, atoms)
        row = sum(c * source[j] for j, c in expected.items())
        np.testing.assert_allclose(solution.rows[token].numpy(), row, rtol=1e-3, atol=1e-4)
        found = dict(zip(origins.ids[token].tolist(), origins.weights[token].tolist(), strict=True))
        assert found == pytest.approx({ids[j]: c for j, c in expected.items()}, rel=1e-3, abs=1e-4)


def test_omp_stops_when_a_token_is_matched(make: Make, with_helper: Callable[..., Problem]) -> None:
    """A token along the longest atom uses no other; more atoms than dimensions change nothing."""
    problem = make(overlap=50, narrow=8, atoms=64)
    wanted = problem.wanted.helper.clone()
    longest = int(problem.known.helper.norm(dim=1).argmax())
    wanted[0], wanted[1] = 2 * problem.known.helper[longest], 0
    problem = with_helper(problem, wanted=wanted)
    solution = methods.get("omp")(problem)
    torch.testing.assert_close(solution.rows[0], 2 * problem.source[longest], rtol=1e-4, atol=1e-4)
    assert (solution.rows[1] == 0).all()
    assert torch.isfinite(solution.rows).all()
    assert solution.origins is not None
    origins = solution.origins(9)
    assert origins.ids[0].tolist() == [int(problem.source_ids[longest])] + [-1] * 8
    assert ((origins.ids[2:] >= 0).sum(1) == 8).all()


def test_omp_batches_do_not_change_the_rows(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = make(overlap=200, missing=40, narrow=48, atoms=6)
    whole = methods.get("omp")(problem).rows
    monkeypatch.setattr(omp, "BATCH", 6 * 48 * 7)
    torch.testing.assert_close(methods.get("omp")(problem).rows, whole, rtol=1e-4, atol=1e-5)
