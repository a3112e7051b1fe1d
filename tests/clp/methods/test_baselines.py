"""The methods that need no helper, and what all methods have in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from clp_transfer.clp import methods
from clp_transfer.clp.job import MethodConfig
from clp_transfer.clp.methods.norms import calibrated
from clp_transfer.clp.methods.problem import Problem, Solution
from clp_transfer.clp.transfer import solve

Make = Callable[..., Problem]
WITHOUT_FILES = ["random", "mean", "gaussian", "clp", "clp-topk", "procrustes", "omp", "fvt"]


def test_mean(problem: Problem) -> None:
    made = methods.get("mean")(problem).rows
    expected = np.tile(problem.source.numpy().mean(0), (len(problem.wanted), 1))
    np.testing.assert_allclose(made.numpy(), expected, rtol=1e-5, atol=1e-6)


def test_fvt_is_the_mean_of_the_pieces(problem: Problem, from_origins: Callable[..., torch.Tensor]) -> None:
    """Every fourth token of the problem has no pieces: it gets the overlap's mean and is counted."""
    solution = methods.get("fvt")(problem)
    every = problem.table.rows(torch.arange(100)).double().numpy()
    expected = np.stack(
        [every[p].mean(0) if p else problem.source.double().numpy().mean(0) for p in problem.wanted.pieces]
    )
    np.testing.assert_allclose(solution.rows.numpy(), expected, rtol=1e-5, atol=1e-6)
    assert solution.diagnostics["without_pieces"] == sum(not p for p in problem.wanted.pieces) == 7
    assert solution.origins is not None
    spelled = torch.tensor([bool(p) for p in problem.wanted.pieces])
    torch.testing.assert_close(from_origins(problem, solution.origins(4))[spelled], solution.rows[spelled])


def test_fvt_reads_each_source_row_once_and_weighs_repeated_pieces(problem: Problem) -> None:
    wanted = replace(problem.wanted, segment=lambda: [[5, 5, 9]] * len(problem.wanted))
    problem = replace(problem, wanted=wanted)
    before = problem.table.read  # type: ignore[attr-defined]
    solution = methods.get("fvt")(problem)
    assert problem.table.read - before == 2  # type: ignore[attr-defined]
    assert solution.origins is not None
    origins = solution.origins(2)
    assert origins.ids[0].tolist() == [5, 9]
    assert origins.weights[0].tolist() == pytest.approx([2 / 3, 1 / 3])


def test_random_has_the_source_statistics_and_follows_the_seed(make: Make) -> None:
    problem = make(missing=20_000)
    rows = methods.get("random")(problem).rows
    every = problem.table.rows(torch.arange(100))
    torch.testing.assert_close(rows.mean(0), every.mean(0), rtol=0, atol=0.05)
    torch.testing.assert_close(rows.std(0), every.std(0), rtol=0.05, atol=0)
    problem.generator.manual_seed(1)
    assert torch.equal(rows, methods.get("random")(problem).rows)
    assert not torch.equal(rows, methods.get("random")(problem).rows)


@pytest.mark.parametrize("shrink", [1.0, 1e-2])
def test_gaussian_has_the_source_covariance(make: Make, shrink: float) -> None:
    problem = make(missing=50_000, wide=6, shrink=shrink)
    rows = methods.get("gaussian")(problem).rows.double()
    mean, covariance = problem.table.moments()
    torch.testing.assert_close(rows.mean(0), mean, rtol=0, atol=0.03 * shrink)
    torch.testing.assert_close(torch.cov(rows.T) / shrink**2, covariance, rtol=0, atol=0.04)


def test_gaussian_with_fewer_tokens_than_dimensions(make: Make) -> None:
    """The covariance is then singular; draws stay in the space that the rows span."""
    problem = make(overlap=100, missing=300, wide=150)
    rows = methods.get("gaussian")(problem).rows
    every = problem.table.rows(torch.arange(100)).double()
    assert torch.isfinite(rows).all()
    basis = torch.linalg.qr((every - every.mean(0)).T)[0]
    centred = rows.double() - every.mean(0)
    torch.testing.assert_close(centred @ basis @ basis.T, centred, rtol=0, atol=1e-3)


def test_calibrated_rows_have_the_mean_norm_of_the_source(problem: Problem) -> None:
    rows = torch.randn(5, problem.table.width)
    rows[2] = 0
    made = calibrated(Solution(rows), problem).rows
    expected = float(problem.source.norm(dim=1).mean())
    assert made.norm(dim=1).tolist() == pytest.approx([expected, expected, 0, expected, expected])
    torch.testing.assert_close(torch.nn.functional.normalize(made), torch.nn.functional.normalize(rows))


@pytest.mark.parametrize("name", WITHOUT_FILES)
def test_norms_reach_every_method_and_what_it_tells(
    make: Make, from_origins: Callable[..., torch.Tensor], name: str
) -> None:
    """The weights of all source rows give the scaled row, as they give the row that is not."""
    problem = make(name=name, norms="source")
    solution = solve(problem)
    expected = float(problem.source.double().norm(dim=1).mean())
    norms = solution.rows.double().norm(dim=1)
    assert norms.tolist() == pytest.approx([expected] * len(norms), rel=1e-5)
    plain = solve(make(name=name))
    torch.testing.assert_close(torch.nn.functional.normalize(plain.rows), solution.rows / expected)
    if solution.origins is not None:
        told = from_origins(problem, solution.origins(len(problem.known)))
        some = solution.origins(1).ids[:, 0] >= 0
        assert some.any()
        torch.testing.assert_close(told[some], solution.rows[some], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("method", "named"),
    [
        (MethodConfig("mean"), {"name": "mean"}),
        (MethodConfig("mean", norms="source"), {"name": "mean", "norms": "source"}),
        (MethodConfig("gaussian"), {"name": "gaussian", "shrink": 1.0}),
        (MethodConfig("fvt"), {"name": "fvt", "norms": "keep"}),
        (MethodConfig("own", norms="source"), {"name": "own"}),
        (MethodConfig("scratch", norms="source"), {"name": "scratch"}),
    ],
)
def test_norms_are_named_where_they_make_a_difference(method: MethodConfig, named: dict[str, object]) -> None:
    """And where they always were, so that models that are there are not made again."""
    assert method.read_options() == named


@pytest.mark.parametrize("name", WITHOUT_FILES)
def test_no_wanted_tokens(make: Make, name: str) -> None:
    problem = make(missing=0)
    solution = methods.get(name)(problem)
    assert solution.rows.shape == (0, problem.table.width)
    if solution.origins is not None:
        assert solution.origins(3).ids.shape == (0, 3)


@pytest.mark.parametrize("name", WITHOUT_FILES)
def test_rows_are_float32_and_leave_the_problem_alone(make: Make, name: str) -> None:
    problem = make()
    before = [t.clone() for t in (problem.source, problem.known.helper, problem.wanted.helper)]
    rows = methods.get(name)(problem).rows
    assert rows.dtype == torch.float32
    assert rows.shape == (len(problem.wanted), problem.table.width)
    after = (problem.source, problem.known.helper, problem.wanted.helper)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("name", ["clp", "clp-topk", "procrustes", "omp"])
def test_methods_solve_a_problem_with_hidden_tokens(problem: Problem, name: str) -> None:
    hidden = torch.arange(0, len(problem.known), 5)
    assert methods.get(name)(problem.hide(hidden)).rows.shape == (len(hidden), problem.table.width)


def test_unknown_method_names_the_known_ones() -> None:
    from clp_transfer.errors import UserError

    with pytest.raises(UserError, match="clp-topk"):
        methods.get("magic")


def test_every_method_has_options_in_the_job() -> None:
    from clp_transfer.clp.job import TRANSFERS

    assert set(methods.METHODS) <= set(TRANSFERS)
    assert MethodConfig().name in methods.METHODS
