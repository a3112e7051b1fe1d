"""Products in blocks: what they are, whichever library makes them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from clp_transfer.clp import precision
from clp_transfer.clp.precision import product, products


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several blocks of rows, and of terms, at sizes that a test can afford."""
    monkeypatch.setattr(precision, "ROWS", 7)
    monkeypatch.setattr(precision, "TERMS", 10)


def _tables(m: int, k: int, n: int) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(m + k + n)
    return torch.randn(m, k, generator=draw), torch.randn(n, k, generator=draw)


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize(("m", "k", "n"), [(20, 33, 5), (7, 10, 4), (1, 1, 1), (15, 21, 30)])
@pytest.mark.parametrize("transposed", [True, False])
def test_products_are_those_of_float64(
    small_blocks: None, fast: bool, m: int, k: int, n: int, transposed: bool
) -> None:
    rows, onto = _tables(m, k, n)
    exact = rows.double() @ onto.double().T
    if transposed:  # the same numbers, as views of tables that lie the other way round
        rows, onto = rows.T.contiguous().T, onto.T.contiguous().T
    found = product(rows, onto, fast)
    assert found.dtype == torch.float32
    assert float((found - exact).abs().max()) < 1e-5 * float(exact.abs().max() + 1)


@pytest.mark.parametrize("fast", [True, False])
def test_blocks_follow_the_rows(small_blocks: None, fast: bool) -> None:
    rows, onto = _tables(20, 12, 3)
    assert [len(block) for block in products(rows, onto, fast)] == [7, 7, 6]


def test_long_sums_round_no_more_than_torch_does() -> None:
    """12,000 terms with a common part, as CLP's are."""
    draw = torch.Generator().manual_seed(1)
    rows, onto = (torch.randn(n, 12_000, generator=draw) + 1 for n in (24, 40))
    exact = rows.double() @ onto.double().T
    ours, theirs = (float((found - exact).abs().max()) for found in (product(rows, onto, True), rows @ onto.T))
    assert ours < 3 * theirs + 1e-6


def test_small_products_are_torchs_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "slow_mkl", lambda: True)
    rows, onto = _tables(9, 8, 7)
    assert torch.equal(product(rows, onto), rows @ onto.T)
