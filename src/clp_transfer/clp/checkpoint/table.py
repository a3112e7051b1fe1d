"""One table of a checkpoint, a row per token, read from the disk block by block so that memory stays flat."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from clp_transfer.clp.checkpoint.weights import Weights, torch_dtype
from clp_transfer.errors import UserError
from clp_transfer.turns import urgent

BLOCK = 16 << 20  # the most bytes of a table that are held at once
GAP = 256 << 10  # unwanted bytes between two wanted rows that are cheaper to read than to skip
FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


class Table:
    """A [count, width] tensor of an opened checkpoint; `real`: how many of its first rows belong to tokens.

    The rows after `real` (padding: BLOOM has 250,880 rows for 250,680 tokens) take no part in moments, blocks and
    checks. Raises UserError for a tensor that is no table of floats, or that has fewer than `real` rows.
    """

    def __init__(self, weights: Weights, name: str, real: int | None = None) -> None:
        entry = weights.entries[name]
        if len(entry.shape) != 2 or torch_dtype(entry) not in FLOATS:
            raise UserError(
                f"{entry.file}: {name} is {entry.dtype} {list(entry.shape)}, not a table of floats",
                "take the checkpoint in bfloat16, float16 or float32, not a quantised one",
            )
        self.weights, self.entry = weights, entry
        self.dtype = torch_dtype(entry)
        self.count, self.width = entry.shape
        self.real = self.count if real is None else real
        if self.real > self.count:
            raise UserError(
                f"{entry.file}: {name} has {self.count:,} rows, but the tokenizer has ids up to {self.real - 1:,}",
                "give a model saved together with its own tokenizer",
            )

    def all(self) -> Tensor:
        """Every row, padding included, in the stored dtype."""
        return self.weights.read(self.entry.name)

    def rows(self, ids: Tensor) -> Tensor:
        """The rows of these ids (int64 [n], any order, repeats allowed), float32 [n, width].

        Reads the file once from front to back, at most 16 MB of it at a time. Raises UserError where one of them has
        NaN or infinity, IndexError for an id that the table has no row for.
        """
        ids = ids.to("cpu", torch.int64).flatten()
        if len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < self.count:
            raise IndexError(f"ids {int(ids.min())} to {int(ids.max())} of a table of {self.count} rows")
        out = torch.empty(len(ids), self.width)
        order = None if bool((ids[1:] >= ids[:-1]).all()) else ids.argsort()
        ids = ids if order is None else ids[order]
        with urgent():
            for begin, end in self._spans(ids.tolist()):
                wanted, place = ids[begin:end], slice(begin, end) if order is None else order[begin:end]
                first, last = int(wanted[0]), int(wanted[-1]) + 1
                block = self._read(first, last)
                # Most tables are read as a whole: without gaps and in order, a row is moved only once.
                out[place] = (block if bool((wanted.diff() == 1).all()) else block[wanted - first]).float()
        # The sum carries every NaN and infinity; only then is it worth a look at the whole table.
        if not math.isfinite(float(out.sum())) and not bool(torch.isfinite(out).all()):
            self.check_finite(self.count)
        return out

    def _spans(self, ids: list[int]) -> Iterator[tuple[int, int]]:
        """Cut ascending ids into runs whose rows lie close together and fit one block."""
        near, most = max(1, GAP // self._row_bytes), max(1, BLOCK // self._row_bytes)
        begin = 0
        for i in range(1, len(ids) + 1):
            if i == len(ids) or ids[i] - ids[i - 1] > near or ids[i] - ids[begin] >= most or i - begin >= most:
                yield begin, i
                begin = i

    @property
    def _row_bytes(self) -> int:
        return max(1, self.width * self.dtype.itemsize)

    def _read(self, first: int, last: int) -> Tensor:
        return self.weights.read_rows(self.entry.name, first, last)

    def _stored(self, count: int | None = None) -> Iterator[tuple[int, Tensor]]:
        """The first `count` rows (None: the real ones) as they are stored, in blocks of at most `BLOCK` bytes."""
        step, count = max(1, BLOCK // self._row_bytes), self.real if count is None else count
        for first in range(0, count, step):
            yield first, self._read(first, min(first + step, count))

    def spread(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (by n - 1) of the real rows per dimension, [width] each, float64. One pass."""
        count, mean, squares = 0, torch.zeros(self.width, dtype=torch.float64), torch.zeros(self.width).double()
        for _, block in self._stored():
            rows = block.double()
            here = rows.mean(0)
            joined = count + len(rows)
            # Chan, Golub & LeVeque 1983: no large sums of squares are ever subtracted.
            squares += (rows - here).square().sum(0) + (here - mean).square() * (count * len(rows) / joined)
            mean += (here - mean) * (len(rows) / joined)
            count = joined
        if not bool(torch.isfinite(mean).all()):
            self.check_finite()
        return mean, (squares / max(1, count - 1)).sqrt()

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean [width] and covariance [width, width] of the real rows, float64, as `torch.cov` divides (by n - 1).

        One pass. The rows are shifted by the first block's mean, so that a mean far from zero costs no digits. The
        products are NumPy's, which halves the work where it multiplies a matrix by its own transpose.
        """
        shift, total, products = None, torch.zeros(self.width, dtype=torch.float64), None
        for _, block in self._stored():
            rows = block.double()
            if shift is None:
                shift = rows.mean(0)
            rows -= shift
            total += rows.sum(0)
            part = torch.from_numpy(rows.numpy().T @ rows.numpy())
            products = part if products is None else products.add_(part)
        if shift is None or products is None:
            raise UserError(f"{self.entry.file}: {self.entry.name} has no rows", "give a model with a vocabulary")
        mean = total / self.real
        if not bool(torch.isfinite(mean).all()):
            self.check_finite()
        covariance = products.addr_(mean, mean, alpha=-self.real).div_(max(1, self.real - 1))
        return shift + mean, covariance

    def check_finite(self, count: int | None = None) -> None:
        """Raise UserError naming the first of `count` rows (None: the real ones) that hold NaN or infinity."""
        broken: list[int] = []
        for first, block in self._stored(count=count):
            # Largest and smallest values carry every NaN and infinity, and cost a seventh of a look at each number.
            ends = torch.stack([block.amax(1), block.amin(1)])
            broken += [first + i for i in (~torch.isfinite(ends).all(0)).nonzero().flatten().tolist()]
        if broken:
            raise UserError(
                f"{self.entry.file}: {self.entry.name} has {len(broken)} rows with NaN or infinity "
                f"(the first: {', '.join(map(str, broken[:5]))})",
                "this checkpoint is damaged; use another",
            )
