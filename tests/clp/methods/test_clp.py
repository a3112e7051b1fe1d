"""CLP against the original script's loop in float64, its variants against their formulas."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from clp_transfer.clp import methods
from clp_transfer.clp.job import MethodConfig
from clp_transfer.clp.methods import amplification, clp
from clp_transfer.clp.methods.problem import Problem

Make = Callable[..., Problem]


def original(problem: Problem, cosines: Callable[..., np.ndarray]) -> np.ndarray:
    """The script makes the whole similarity matrix, then one np.average a token, weights divided by their sum."""
    source = problem.source.double().numpy()
    return np.stack([np.average(source, axis=0, weights=w / w.sum()) for w in cosines(problem)])


def test_clp_is_the_original_script_loop(problem: Problem, cosines: Callable[..., np.ndarray]) -> None:
    made = methods.get("clp")(problem).rows
    assert made.dtype == torch.float32
    np.testing.assert_allclose(made.numpy(), original(problem, cosines), rtol=1e-5, atol=1e-6)


def test_clp_keeps_negative_weights(problem: Problem, cosines: Callable[..., np.ndarray]) -> None:
    """The paper's code does not cut them; cutting them gives other rows."""
    cut = cosines(problem).clip(min=0)
    averaged = (cut / cut.sum(axis=1, keepdims=True)) @ problem.source.double().numpy()
    assert not np.allclose(methods.get("clp")(problem).rows.numpy(), averaged, rtol=1e-2, atol=1e-2)
    made = methods.get("clp")(replace(problem, options=MethodConfig(negative="cut"))).rows
    np.testing.assert_allclose(made.numpy(), averaged, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shift", [2.0, 0.0])
def test_clp_is_accurate_where_float32_alone_would_not_be(
    make: Make, with_helper: Callable[..., Problem], cosines: Callable[..., np.ndarray], shift: float
) -> None:
    """Tokens nearly at right angles to what all tokens share: the large common part of the sums cancels."""
    problem = make(overlap=3000, missing=200, wide=32, narrow=64, shift=shift)
    problem = replace(problem, source=problem.source + 30.0)
    mean = torch.nn.functional.normalize(problem.known.helper.double()).mean(dim=0)
    wanted = problem.wanted.helper.double()
    crossed = wanted - (1 - 1e-4) * (wanted @ mean)[:, None] * mean / mean.square().sum()
    problem = with_helper(problem, wanted=torch.where(torch.arange(200)[:, None] % 4 == 0, crossed, wanted).float())
    expected = original(problem, cosines)
    scale = np.sqrt(np.mean(problem.source.numpy() ** 2))
    worst = np.abs(clp.solve(problem).rows.numpy() - expected) / np.maximum(
        scale, np.abs(expected).max(1, keepdims=True)
    )
    assert worst.max() < 1e-5


def test_clp_counts_cancelling_cosines_exactly(make: Make, cosines: Callable[..., np.ndarray]) -> None:
    """Sound tokens, unsound ones and those between, with every bound in use; counted as the full matrix counts."""
    for shift in (0.0, 0.1, 0.3, 2.0):
        problem = make(overlap=700, missing=300, narrow=32, shift=shift)
        exact = np.abs(cosines(problem)).sum(1) / np.abs(cosines(problem).sum(1))
        solution = clp.solve(problem)
        assert solution.diagnostics["ill_conditioned"] == (exact > amplification.LIMIT).sum()
        assert solution.diagnostics["amplification_max"] == pytest.approx(exact.max(), rel=1e-3)
        assert solution.diagnostics["amplification_median_sampled"] == pytest.approx(np.sort(exact)[149], rel=1e-3)
        assert bool(solution.warnings) == bool((exact > amplification.LIMIT).any())
        assert not solution.warnings or "cancel" in solution.warnings[0]
    assert not solution.warnings


def test_clp_computes_cosines_of_few_tokens(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    computed = 0
    original_sum = amplification._absolute

    def counted(known: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        nonlocal computed
        computed += len(known) * len(wanted)
        return original_sum(known, wanted)

    monkeypatch.setattr(amplification, "_absolute", counted)
    monkeypatch.setattr(amplification, "SAMPLE", 8)
    for shift in (0.0, 2.0):
        problem = make(overlap=4000, missing=2000, narrow=32, shift=shift)
        computed = 0
        clp.solve(problem)
        assert computed < 0.4 * 4000 * 2000


def test_clp_row_without_weights_is_zero_and_counted(problem: Problem, with_helper: Callable[..., Problem]) -> None:
    wanted = problem.wanted.helper.clone()
    wanted[3] = 0
    solution = clp.solve(with_helper(problem, wanted=wanted))
    assert (solution.rows[3] == 0).all()
    assert torch.isfinite(solution.rows).all()
    assert solution.diagnostics["without_weights"] == 1
    assert solution.diagnostics["ill_conditioned"] >= 1
    assert solution.origins is not None
    assert (solution.origins(3).ids[3] == -1).all()


@pytest.mark.parametrize("weighting", ["softmax", "sparsemax"])
@pytest.mark.parametrize("top_k", [None, 5])
@pytest.mark.parametrize("centre", [False, True])
def test_clp_variants(
    make: Make, cosines: Callable[..., np.ndarray], weighting: str, top_k: int | None, centre: bool
) -> None:
    problem = make(weighting=weighting, top_k=top_k, centre=centre, temperature=0.3)
    expected = []
    for row in cosines(problem, centre):
        kept = np.argsort(-row)[:top_k]
        z = row[kept] / 0.3
        if weighting == "softmax":
            weights = np.exp(z) / np.exp(z).sum()
        else:
            ordered = np.sort(z)[::-1]
            size = np.arange(1, len(z) + 1)
            k = size[1 + size * ordered > ordered.cumsum()].max()
            weights = (z - (ordered[:k].sum() - 1) / k).clip(min=0)
        expected.append(weights @ problem.source.double().numpy()[kept])
    np.testing.assert_allclose(clp.solve(problem).rows.numpy(), np.stack(expected), rtol=1e-4, atol=1e-5)


def test_clp_centred_is_the_closed_form_of_centred_cosines(make: Make, cosines: Callable[..., np.ndarray]) -> None:
    problem = make(centre=True)
    weights = cosines(problem, True)
    expected = (weights / weights.sum(1, keepdims=True)) @ problem.source.double().numpy()
    made = clp.solve(problem).rows.numpy()
    assert (np.abs(made - expected).max(1) <= 1e-5 * np.abs(expected).max(1).clip(min=1)).all()


def test_clp_with_no_positive_cosine_takes_the_nearest(
    make: Make, with_helper: Callable[..., Problem], cosines: Callable[..., np.ndarray]
) -> None:
    problem = make(negative="cut", shift=5.0)
    problem = with_helper(problem, wanted=-problem.wanted.helper)
    nearest = cosines(problem).argmax(1)
    assert (cosines(problem) < 0).all()
    torch.testing.assert_close(clp.solve(problem).rows, problem.source[nearest])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"negative": "cut"},
        {"weighting": "softmax"},
        {"weighting": "sparsemax"},
        {"top_k": 4},
        {"weighting": "softmax", "top_k": 4},
    ],
)
def test_clp_origins_make_the_row(make: Make, from_origins: Callable[..., torch.Tensor], options: dict) -> None:
    """With as many origins as tokens they rebuild the rows; fewer are the first of them."""
    problem = make(overlap=20, **options)
    solution = clp.solve(problem)
    assert solution.origins is not None
    everything = solution.origins(25)
    assert everything.ids.shape == everything.weights.shape == (25, 25)
    torch.testing.assert_close(from_origins(problem, everything), solution.rows, rtol=1e-4, atol=1e-4)
    assert torch.equal(solution.origins(3).ids, everything.ids[:, :3])


def test_clp_topk_is_a_softmax_over_the_nearest(make: Make, cosines: Callable[..., np.ndarray]) -> None:
    problem = make(temperature=0.1)
    for top_k in (None, 5):
        expected = []
        for row in cosines(problem):
            nearest = np.argsort(-row)[: top_k or 10]
            weights = np.exp(row[nearest] / 0.1 - (row[nearest] / 0.1).max())
            expected.append((weights / weights.sum()) @ problem.source.double().numpy()[nearest])
        made = methods.get("clp-topk")(replace(problem, options=MethodConfig(top_k=top_k))).rows.numpy()
        np.testing.assert_allclose(made, np.stack(expected), rtol=1e-4, atol=1e-5)


def test_clp_topk_with_fewer_tokens_than_k(problem: Problem, with_helper: Callable[..., Problem]) -> None:
    few = with_helper(problem, known=problem.known.helper[:3])
    assert torch.isfinite(methods.get("clp-topk")(few).rows).all()
