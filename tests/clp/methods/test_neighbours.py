"""The rough first pass must not change what is found."""

from __future__ import annotations

import pytest
import torch

from clp_transfer.clp.methods import neighbours
from clp_transfer.clp.methods.neighbours import Index, unit
from clp_transfer.clp.methods.weighting import sparsemax


@pytest.mark.parametrize("reduced", [False, True])
@pytest.mark.parametrize("absolute", [False, True])
@pytest.mark.parametrize("scale", [1.0, 1e-3])
@pytest.mark.parametrize("k", [1, 7])
def test_nearest_is_exact_whatever_the_first_pass_rounds(reduced: bool, absolute: bool, scale: float, k: int) -> None:
    """Half of the table lies so close together that bfloat16 cannot tell its rows apart."""
    draw = torch.Generator().manual_seed(0)
    table = torch.randn(400, 32, generator=draw)
    table[200:] = table[200] + 1e-4 * torch.randn(200, 32, generator=draw)
    table *= scale
    vectors = torch.cat([torch.randn(50, 32, generator=draw), table[200:210] / scale])
    exact = vectors.double() @ table.double().T
    best = (exact.abs() if absolute else exact).topk(k, dim=1)
    products, positions = Index(table, reduced).nearest(vectors, k, absolute)
    torch.testing.assert_close(products.double(), exact.gather(1, positions), rtol=1e-5, atol=1e-5 * scale)
    found = products.double().abs() if absolute else products.double()
    torch.testing.assert_close(found, best.values, rtol=1e-6, atol=1e-6 * scale)


def test_few_rows_are_compared_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """On tables without crowds the first pass decides for most vectors."""
    draw = torch.Generator().manual_seed(0)
    table, vectors = unit(torch.randn(2000, 64, generator=draw), torch.randn(300, 64, generator=draw))
    index, again = Index(table, reduced=True), 0
    direct = index._direct

    def counted(block: torch.Tensor, k: int, absolute: bool) -> tuple[torch.Tensor, torch.Tensor]:
        nonlocal again
        again += len(block)
        return direct(block, k, absolute)

    monkeypatch.setattr(index, "_direct", counted)
    assert torch.equal(index.nearest(vectors, 5)[1], Index(table, reduced=False).nearest(vectors, 5)[1])
    assert again < 30


@pytest.mark.parametrize("reduced", [False, True])
def test_blocks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch, reduced: bool) -> None:
    table, vectors = torch.randn(70, 8), torch.randn(33, 8)
    whole = Index(table, reduced).nearest(vectors, 3)[1]
    monkeypatch.setattr(neighbours, "BLOCK", 500)
    assert torch.equal(whole, Index(table, reduced).nearest(vectors, 3)[1])


def test_what_was_found_outlives_the_next_search() -> None:
    """All searches of an index compute in the same memory."""
    table, vectors = torch.randn(700, 8), torch.randn(2, 30, 8)
    index = Index(table)
    kept = index.nearest(vectors[0], 3)
    first = [each.clone() for each in kept]
    index.nearest(vectors[1], 3, absolute=True)
    assert all(torch.equal(a, b) for a, b in zip(first, kept, strict=True))


@pytest.mark.parametrize(
    "rows", [1, neighbours.LINE - 1, neighbours.LINE, neighbours.LINE + 1, 3 * neighbours.LINE + 5]
)
@pytest.mark.parametrize("k", [1, 2])
def test_what_a_line_of_products_is_filled_up_with_is_never_found(rows: int, k: int) -> None:
    draw = torch.Generator().manual_seed(rows)
    table, vectors = torch.rand(rows, 8, generator=draw), -torch.rand(20, 8, generator=draw)
    vectors[0] = 0
    products, positions = Index(table).nearest(vectors, k)
    exact = vectors.double() @ table.double().T
    assert int(positions.max()) < rows and bool((products <= 0).all())
    torch.testing.assert_close(products.double(), exact.topk(min(k, rows), dim=1).values, rtol=1e-5, atol=1e-6)


def test_no_vectors_and_more_neighbours_than_rows() -> None:
    for rows, k, found in ((3, 5, 3), (3, 1, 1), (1, 5, 1)):
        index = Index(torch.randn(rows, 8))
        assert index.nearest(torch.zeros(0, 8), k)[0].shape == (0, found)
        assert index.nearest(torch.randn(2, 8), k)[1].shape == (2, found)


def test_sparsemax_is_the_projection_on_the_simplex() -> None:
    """Optimality: weights sum to one, and z - w is the same for all in the support and not larger elsewhere."""
    for spread in (0.01, 1.0, 30.0):
        z = spread * torch.randn(50, 40, dtype=torch.float64)
        weights = sparsemax(z)
        torch.testing.assert_close(weights.sum(1), torch.ones(50, dtype=torch.float64))
        threshold = torch.where(weights > 0, z - weights, -torch.inf).amax(1, keepdim=True)
        torch.testing.assert_close((z - threshold).clamp(min=0), weights)
