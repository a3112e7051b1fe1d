"""Ridge against float64 least squares written from its formula, and against really leaving tokens out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from clp_transfer.clp import methods
from clp_transfer.clp.methods import ridge
from clp_transfer.clp.methods.problem import Problem
from clp_transfer.errors import UserError

Make = Callable[..., Problem]


@pytest.fixture
def rich(make: Make) -> Make:
    """A problem in which helper and pieces both tell something, with counts; some tokens have no pieces."""

    def build(**options) -> Problem:
        problem = make(**options)
        draw = torch.Generator().manual_seed(7)
        pieces = [[(5 * i + j) % 100 for j in range(i % 4)] for i in range(len(problem.known))]
        counts = torch.randint(0, 50, (len(problem.known),), generator=draw).float()
        helper = problem.known.helper
        noise = torch.randn(problem.source.shape, generator=draw)
        source = helper @ torch.randn(helper.shape[1], problem.source.shape[1], generator=draw) + 2 * noise + 3
        known = replace(problem.known, segment=lambda: pieces, counts=counts)
        return replace(problem, known=known, source=source)

    return build


def means(problem: Problem, pieces: list[list[int]]) -> np.ndarray:
    """The mean row of each token's pieces, the overlap's mean for a token without any."""
    table, centre = problem.table.table.double().numpy(), problem.source.double().numpy().mean(axis=0)
    return np.stack([table[found].mean(axis=0) if found else centre for found in pieces])


def features(problem: Problem) -> tuple[np.ndarray, np.ndarray]:
    parts = []
    for kind in problem.options.with_defaults().features:
        sides = (problem.known, problem.wanted)
        pair = [s.helper.double().numpy() if kind == "helper" else means(problem, s.pieces) for s in sides]
        parts.append([rows / np.sqrt(pair[0].var(axis=0).mean()) for rows in pair])
    return np.hstack([known for known, _ in parts]), np.hstack([wanted for _, wanted in parts])


def shares(problem: Problem) -> np.ndarray:
    power = problem.options.frequency_power or 0.0
    counts = np.zeros(len(problem.known)) if problem.known.counts is None else problem.known.counts.double().numpy()
    raw = (counts + 1) ** power
    return raw / raw.sum()


def penalty_of(x: np.ndarray, weights: np.ndarray, share: float) -> float:
    """`share` times the weighted mean variance of the features."""
    centred = x - weights @ x
    return share * np.trace((centred * weights[:, None]).T @ centred) / x.shape[1]


def fitted(x: np.ndarray, y: np.ndarray, weights: np.ndarray, penalty: float, new: np.ndarray) -> np.ndarray:
    """Weighted least squares with a free intercept, the penalty as extra rows of the system."""
    width = x.shape[1]
    top = np.sqrt(weights)[:, None] * np.hstack([x, np.ones((len(x), 1))])
    bottom = np.hstack([np.sqrt(penalty) * np.eye(width), np.zeros((width, 1))])
    targets = np.vstack([np.sqrt(weights)[:, None] * y, np.zeros((width, y.shape[1]))])
    map_, *_ = np.linalg.lstsq(np.vstack([top, bottom]), targets, rcond=None)
    return np.hstack([new, np.ones((len(new), 1))]) @ map_


def left_out(problem: Problem, share: float) -> np.ndarray:
    """Squared error of each token's row when predicted by a fit that never saw it, weights and penalty as they were."""
    x, _ = features(problem)
    y, weights = problem.source.double().numpy(), shares(problem)
    penalty = penalty_of(x, weights, share)
    kept = [np.arange(len(x)) != i for i in range(len(x))]
    made = [fitted(x[k], y[k], weights[k], penalty, x[i : i + 1])[0] for i, k in enumerate(kept)]
    return ((y - np.stack(made)) ** 2).sum(axis=1)


KINDS = (["helper"], ["pieces"], ["helper", "pieces"])


@pytest.mark.parametrize("power", [0.0, 0.5])
@pytest.mark.parametrize("kinds", KINDS)
def test_rows_are_the_penalised_least_squares(rich: Make, kinds: list[str], power: float) -> None:
    problem = rich(name="ridge", ridge=0.3, features=kinds, frequency_power=power)
    (x, new), y, weights = features(problem), problem.source.double().numpy(), shares(problem)
    expected = fitted(x, y, weights, penalty_of(x, weights, 0.3), new)
    solution = methods.get("ridge")(problem)
    np.testing.assert_allclose(solution.rows.numpy(), expected, rtol=1e-4, atol=1e-4)
    assert solution.rows.dtype == torch.float32
    residual = weights @ ((y - fitted(x, y, weights, penalty_of(x, weights, 0.3), x)) ** 2).sum(axis=1)
    total = weights @ ((y - weights @ y) ** 2).sum(axis=1)
    assert solution.diagnostics["explained_variance_on_overlap"] == pytest.approx(1 - residual / total, abs=1e-5)
    assert solution.diagnostics["penalty"] == 0.3 and "left_out_error" not in solution.diagnostics


@pytest.mark.parametrize(("kinds", "power"), [(["helper"], 0.0), (["helper", "pieces"], 1.0)])
def test_the_penalty_has_the_smallest_leave_one_out_error(rich: Make, kinds: list[str], power: float) -> None:
    """Every penalty's error by really leaving each token out; the chosen one is the smallest, inside the range."""
    problem = rich(name="ridge", features=kinds, frequency_power=power)
    y, weights = problem.source.double().numpy(), shares(problem)
    total = weights @ ((y - weights @ y) ** 2).sum(axis=1)
    expected = {p: weights @ left_out(problem, p) / total for p in ridge.PENALTIES}
    best = min(expected, key=lambda p: expected[p])
    assert min(ridge.PENALTIES) < best < max(ridge.PENALTIES)
    solution = methods.get("ridge")(problem)
    assert solution.diagnostics["penalty"] == best
    assert solution.diagnostics["left_out_error"] == pytest.approx(expected[best], rel=1e-5)
    fixed = replace(problem, options=replace(problem.options, ridge=best))
    torch.testing.assert_close(methods.get("ridge")(fixed).rows, solution.rows)


def test_many_tokens_are_compared_by_evenly_spaced_ones(rich: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ridge, "COMPARED", 10)
    problem = rich(name="ridge")
    y = problem.source.double().numpy()
    chosen = np.linspace(0, len(y) - 1, 10).astype(int)
    total = ((y - y.mean(axis=0))[chosen] ** 2).sum()
    expected = {p: left_out(problem, p)[chosen].sum() / total for p in ridge.PENALTIES}
    solution = methods.get("ridge")(problem)
    best = min(expected, key=lambda p: expected[p])
    assert solution.diagnostics["penalty"] == best
    assert solution.diagnostics["left_out_error"] == pytest.approx(expected[best], rel=1e-5)


def test_finds_a_linear_map_that_exists(make: Make) -> None:
    problem = make(name="ridge", ridge=1e-9)
    truth = torch.randn(problem.known.helper.shape[1], 24, generator=torch.Generator().manual_seed(5))
    linear = replace(problem, source=problem.known.helper @ truth + 3)
    expected = problem.wanted.helper @ truth + 3
    torch.testing.assert_close(methods.get("ridge")(linear).rows, expected, rtol=1e-4, atol=1e-4)
    chosen = methods.get("ridge")(replace(linear, options=replace(linear.options, ridge=None)))
    assert chosen.diagnostics["penalty"] == min(ridge.PENALTIES)
    assert chosen.diagnostics["left_out_error"] < 1e-4


def test_a_large_common_part_changes_nothing(rich: Make) -> None:
    problem = rich(name="ridge", ridge=0.1)
    moved = replace(
        problem,
        known=replace(problem.known, helper=problem.known.helper + 100),
        wanted=replace(problem.wanted, helper=problem.wanted.helper + 100),
    )
    expected = methods.get("ridge")(problem).rows
    torch.testing.assert_close(methods.get("ridge")(moved).rows, expected, rtol=1e-3, atol=1e-3)


def test_more_dimensions_than_tokens(make: Make) -> None:
    problem = make(name="ridge", overlap=10, narrow=40, ridge=1e-2)
    (x, new), y, weights = features(problem), problem.source.double().numpy(), shares(problem)
    expected = fitted(x, y, weights, penalty_of(x, weights, 1e-2), new)
    np.testing.assert_allclose(methods.get("ridge")(problem).rows.numpy(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("alike", ["one token", "helper", "pieces", "source"])
def test_nothing_to_fit_gives_the_mean(rich: Make, alike: str) -> None:
    """No variance on one side: the rows are the overlap's mean, and every diagnostic is a number."""
    problem = rich(name="ridge", features=["pieces" if alike == "pieces" else "helper"])
    known = problem.known
    if alike == "one token":
        problem = problem.hide(torch.arange(1, len(known)))
    elif alike == "helper":
        rows = (known.helper[:1] / 3).expand(len(known), -1)
        problem = replace(problem, known=replace(known, helper=rows), wanted=replace(problem.wanted, helper=rows[:25]))
    elif alike == "pieces":
        problem = replace(problem, known=replace(known, segment=lambda: [[]] * len(known)))
        problem = replace(problem, wanted=replace(problem.wanted, segment=lambda: [[]] * len(problem.wanted)))
    else:
        problem = replace(problem, source=problem.source[:1].expand(len(known), -1).clone())
    solution = methods.get("ridge")(problem)
    expected = problem.source.mean(dim=0).expand(len(problem.wanted), -1)
    torch.testing.assert_close(solution.rows, expected, rtol=1e-4, atol=1e-4)
    assert all(np.isfinite(value) for value in solution.diagnostics.values())


def test_counts_count_only_where_asked_for(rich: Make) -> None:
    plain, weighted = rich(name="ridge", ridge=0.3), rich(name="ridge", ridge=0.3, frequency_power=1.0)
    rows = methods.get("ridge")(plain).rows
    without = replace(plain, known=replace(plain.known, counts=None))
    assert torch.equal(methods.get("ridge")(without).rows, rows)
    assert not torch.allclose(methods.get("ridge")(weighted).rows, rows, rtol=1e-2)


@pytest.mark.parametrize("options", [{"features": []}, {"features": ["helper", "letters"]}])
def test_options_that_make_no_sense(make: Make, options: dict) -> None:
    with pytest.raises(UserError, match=next(iter(options))):
        methods.get("ridge")(make(name="ridge", **options))
