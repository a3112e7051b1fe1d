"""Every method against a float64 computation written from its formula (for clp: from the original script)."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from clp_transfer.clp import methods
from clp_transfer.clp.job import MethodConfig
from clp_transfer.clp.methods.problem import Problem
from clp_transfer.errors import UserError

OVERLAP, MISSING, WIDE, NARROW = 60, 25, 24, 8


@pytest.fixture
def problem() -> Problem:
    draw = torch.Generator().manual_seed(0)
    source_all = torch.randn(100, WIDE, generator=draw)
    shift = torch.randn(NARROW, generator=draw)
    return Problem(
        source=source_all[:OVERLAP],
        source_all=source_all,
        helper=torch.randn(OVERLAP, NARROW, generator=draw) + shift,
        helper_missing=torch.randn(MISSING, NARROW, generator=draw) + shift,
        pieces=[[i % 100, (3 * i) % 100, 7] for i in range(MISSING)],
        options=MethodConfig(top_k=5, temperature=0.1, ridge=0.3),
        generator=torch.Generator().manual_seed(1),
    )


def cosines(problem: Problem) -> np.ndarray:
    known, wanted = problem.helper.double().numpy(), problem.helper_missing.double().numpy()
    known = known / np.linalg.norm(known, axis=1, keepdims=True)
    return (wanted / np.linalg.norm(wanted, axis=1, keepdims=True)) @ known.T


def test_clp_is_the_original_script_loop(problem: Problem) -> None:
    """The script makes the whole similarity matrix, then one np.average a token, weights divided by their sum."""
    expected = [np.average(problem.source.double().numpy(), axis=0, weights=w / w.sum()) for w in cosines(problem)]
    made = methods.get("clp")(problem).rows.numpy()
    np.testing.assert_allclose(made, np.stack(expected), rtol=1e-5, atol=1e-6)


def test_clp_keeps_negative_weights(problem: Problem) -> None:
    """The paper's code does not cut them; cutting them gives other rows."""
    cut = cosines(problem).clip(min=0)
    averaged = (cut / cut.sum(axis=1, keepdims=True)) @ problem.source.double().numpy()
    assert not np.allclose(methods.get("clp")(problem).rows.numpy(), averaged, rtol=1e-2, atol=1e-2)


def test_clp_reports_cancelling_cosines(problem: Problem) -> None:
    balanced = torch.cat([problem.helper[:30], -problem.helper[:30]])
    balanced[0] *= 1 + 1e-3
    balanced[0, 0] += 0.01
    broken = Problem(**{**problem.__dict__, "helper": balanced})
    solution = methods.get("clp")(broken)
    amplification = np.abs(cosines(broken)).sum(1) / np.abs(cosines(broken).sum(1))
    assert solution.diagnostics["ill_conditioned"] == (amplification > 10).sum() > 0
    assert "cancel" in solution.warnings[0]
    assert methods.get("clp")(problem).diagnostics["amplification_median"] == pytest.approx(
        np.median(np.sort(np.abs(cosines(problem)).sum(1) / np.abs(cosines(problem).sum(1)))), rel=1e-4
    )


def test_clp_topk_is_a_softmax_over_the_nearest(problem: Problem) -> None:
    expected = []
    for row in cosines(problem):
        nearest = np.argsort(-row)[:5]
        weights = np.exp(row[nearest] / 0.1 - (row[nearest] / 0.1).max())
        expected.append((weights / weights.sum()) @ problem.source.double().numpy()[nearest])
    np.testing.assert_allclose(methods.get("clp-topk")(problem).rows.numpy(), np.stack(expected), rtol=1e-4, atol=1e-5)


def test_clp_topk_with_fewer_tokens_than_k(problem: Problem) -> None:
    few = Problem(**{**problem.__dict__, "source": problem.source[:3], "helper": problem.helper[:3]})
    assert torch.isfinite(methods.get("clp-topk")(few).rows).all()


def test_ridge_is_the_penalised_least_squares(problem: Problem) -> None:
    """As an augmented least-squares problem: the penalty becomes extra rows."""
    x, y = problem.helper.double().numpy(), problem.source.double().numpy()
    mx, my = x.mean(0), y.mean(0)
    penalty = 0.3 * np.trace((x - mx).T @ (x - mx)) / NARROW
    tall = np.vstack([x - mx, np.sqrt(penalty) * np.eye(NARROW)])
    weights = np.linalg.lstsq(tall, np.vstack([y - my, np.zeros((NARROW, WIDE))]), rcond=None)[0]
    expected = my + (problem.helper_missing.double().numpy() - mx) @ weights
    np.testing.assert_allclose(methods.get("ridge")(problem).rows.numpy(), expected, rtol=1e-4, atol=1e-5)


def test_ridge_finds_a_linear_map_that_exists(problem: Problem) -> None:
    truth = torch.randn(NARROW, WIDE, generator=torch.Generator().manual_seed(5))
    linear = Problem(**{**problem.__dict__, "source": problem.helper @ truth, "options": MethodConfig(ridge=1e-9)})
    torch.testing.assert_close(methods.get("ridge")(linear).rows, problem.helper_missing @ truth, rtol=1e-4, atol=1e-4)


def test_mean_and_fvt(problem: Problem) -> None:
    made = methods.get("mean")(problem).rows
    np.testing.assert_allclose(
        made.numpy(), np.tile(problem.source.numpy().mean(0), (MISSING, 1)), rtol=1e-5, atol=1e-6
    )
    expected = np.stack([problem.source_all.numpy()[p].mean(0) for p in problem.pieces])
    np.testing.assert_allclose(methods.get("fvt")(problem).rows.numpy(), expected, rtol=1e-5, atol=1e-6)


def test_random_has_the_source_statistics_and_follows_the_seed(problem: Problem) -> None:
    many = Problem(**{**problem.__dict__, "helper_missing": torch.zeros(20_000, NARROW)})
    rows = methods.get("random")(many).rows
    torch.testing.assert_close(rows.mean(0), problem.source_all.mean(0), rtol=0, atol=0.05)
    torch.testing.assert_close(rows.std(0), problem.source_all.std(0), rtol=0.05, atol=0)
    problem.generator.manual_seed(3)
    first = methods.get("random")(problem).rows
    problem.generator.manual_seed(3)
    assert torch.equal(first, methods.get("random")(problem).rows)


def test_unknown_method_names_the_known_ones() -> None:
    with pytest.raises(UserError, match="clp-topk"):
        methods.get("magic")
