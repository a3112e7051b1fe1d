"""Rows and moments against plain torch in float64."""

from concurrent.futures import ThreadPoolExecutor, wait

import pytest
import torch
from safetensors.torch import save_file

from clp_transfer.clp.checkpoint import table as tables
from clp_transfer.clp.checkpoint.table import Table
from clp_transfer.clp.checkpoint.weights import Weights
from clp_transfer.errors import UserError
from clp_transfer.turns import let_pass

ROWS, WIDTH = 500, 24


def save(folder, table: torch.Tensor, **more: torch.Tensor) -> Weights:
    save_file({"before": torch.ones(3), "table": table, **more}, folder / "model.safetensors")
    return Weights(folder)


@pytest.fixture(params=[torch.float64, torch.float32, torch.float16, torch.bfloat16])
def drawn(request) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return (torch.randn(ROWS, WIDTH, generator=generator, dtype=torch.float64) + 5).to(request.param)


@pytest.fixture(params=[64 << 20, 2000])
def block(request, monkeypatch) -> int:
    """The usual block, and one of a few rows only."""
    monkeypatch.setattr(tables, "BLOCK", request.param)
    monkeypatch.setattr(tables, "GAP", request.param // 8)
    return request.param


def test_rows_in_any_order(tmp_path, drawn, block):
    table = Table(save(tmp_path, drawn), "table")
    ids = torch.randint(ROWS, (300,), generator=torch.Generator().manual_seed(4))
    for chosen in (ids, torch.arange(ROWS), torch.tensor([ROWS - 1, 0, 0, 7]), ids[:0]):
        found = table.rows(chosen)
        assert found.dtype == torch.float32 and torch.equal(found, drawn.float()[chosen])
    assert (table.count, table.real, table.width, table.dtype) == (ROWS, ROWS, WIDTH, drawn.dtype)


def test_all(tmp_path, drawn):
    table = Table(save(tmp_path, drawn), "table", real=ROWS - 9)
    assert table.all().dtype == drawn.dtype and torch.equal(table.all(), drawn)


def test_moments_leave_padding_out(tmp_path, drawn, block):
    drawn[-20:] = 1000.0
    mean, covariance = Table(save(tmp_path, drawn), "table", real=ROWS - 20).moments()
    real = drawn[: ROWS - 20].double()
    assert mean.dtype == covariance.dtype == torch.float64
    torch.testing.assert_close(mean, real.mean(0), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(covariance, real.T.cov(), rtol=1e-11, atol=1e-12)


def test_moments_far_from_zero(tmp_path):
    far = 1e6 + torch.randn(ROWS, WIDTH, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    _, covariance = Table(save(tmp_path, far), "table").moments()
    torch.testing.assert_close(covariance, far.T.cov(), rtol=1e-6, atol=1e-8)


def test_pickled_table(tmp_path):
    drawn = torch.randn(ROWS, WIDTH)
    torch.save({"table": drawn.t().contiguous().t()}, tmp_path / "pytorch_model.bin")  # stored column by column
    table = Table(Weights(tmp_path), "table")
    assert torch.equal(table.rows(torch.tensor([3, 1])), drawn[[3, 1]]) and torch.equal(table.all(), drawn)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_broken_rows_are_named(tmp_path, drawn, block, bad):
    drawn[ROWS - 1] = bad  # padding, nobody's business
    weights = save(tmp_path, drawn)
    Table(weights, "table", real=ROWS - 1).check_finite()
    drawn[7, 3] = drawn[450, 0] = bad
    weights = save(tmp_path, drawn)
    with pytest.raises(
        UserError, match=r"model.safetensors: table has 2 rows with NaN or infinity \(the first: 7, 450\)"
    ):
        Table(weights, "table", real=ROWS - 1).check_finite()


def test_ids_and_rows_that_do_not_fit(tmp_path):
    weights = save(tmp_path, torch.zeros(5, 3), packed=torch.zeros(5, 3, dtype=torch.uint8))
    with pytest.raises(IndexError):
        Table(weights, "table").rows(torch.tensor([5]))
    with pytest.raises(IndexError):
        Table(weights, "table").rows(torch.tensor([-1]))
    with pytest.raises(UserError, match="has 5 rows, but the tokenizer has ids up to 5"):
        Table(weights, "table", real=6)
    with pytest.raises(UserError, match=r"packed is U8 \[5, 3\], not a table of floats"):
        Table(weights, "packed")
    with pytest.raises(UserError, match="not a table"):
        Table(weights, "before")


def test_to_read_rows_is_urgent(tmp_path, drawn, monkeypatch):
    """What hashes and copies in the background stands still until they are read, also where they cannot be."""
    table, read = Table(save(tmp_path, drawn), "table"), Table._read
    with ThreadPoolExecutor(1) as pool:
        background = []

        def noted(self, first, last):
            background.append(pool.submit(let_pass))
            assert not wait(background, 0.1).done
            return read(self, first, last)

        monkeypatch.setattr(Table, "_read", noted)
        table.rows(torch.arange(9))
        monkeypatch.setattr(Table, "_read", lambda *_: background.append(pool.submit(let_pass)) or 1 / 0)
        with pytest.raises(ZeroDivisionError):
            table.rows(torch.arange(9))
        assert len(wait(background, 30).done) == len(background) == 2
