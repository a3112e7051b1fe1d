"""The nearest overlapping tokens of each token: exact, in bounded memory, at the speed of 16-bit products."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import normalize

from clp_transfer.clp.precision import fast_bfloat16_processor

# Elements of a block of cosines: 32 MB in float32.
BLOCK = 2**23
# Of a row of products: so many are compared at once, which fill cache lines from end to end.
LINE = 64
# A 16-bit score is at most this far, in relative terms, above the sum that it rounds.
ROUNDING = 1.01 * 2.0**-9
# Below this many multiplications the first, rough pass costs more than it saves.
WORTHWHILE = 2**30


def unit(known: Tensor, wanted: Tensor, centre: bool = False) -> tuple[Tensor, Tensor]:
    """Rows of both tables scaled to length one (a row of zeros stays zero), so that products are cosines.

    `centre` takes the mean of `known` away from both first: else a direction that all tokens share makes all
    cosines alike.
    """
    if centre:
        mean = known.mean(dim=0)
        known, wanted = known - mean, wanted - mean
    return normalize(known), normalize(wanted)


def blocks(rows: Tensor, width: int) -> Iterator[Tensor]:
    """`rows` in parts, so that a table of a part's rows by `width` stays below BLOCK elements."""
    return iter(rows.split(max(1, BLOCK // max(width, 1))))


class Index:
    """Finds the rows of a table [n, d] with the largest products with a given vector.

    Where the processor multiplies 16-bit floats in hardware (several times faster than 32-bit ones), a first pass
    in bfloat16 finds candidates, which are then compared in float32. By Cauchy-Schwarz the rounding of a product
    is at most ‖h − h₁₆‖‖o‖ + ‖h₁₆‖‖o − o₁₆‖; where that leaves a doubt that a row outside the candidates belongs
    to the nearest, the vector is compared with all rows in float32. So the result is exact, not approximate.
    """

    def __init__(self, table: Tensor, reduced: bool | None = None) -> None:
        """`reduced`: whether to make the 16-bit pass; None: where it is fast."""
        self.table = table
        self.reduced = (table.device.type == "cpu" and fast_bfloat16_processor()) if reduced is None else reduced
        self.always = reduced is True
        self._rooms: dict[tuple[torch.dtype, int], Tensor] = {}
        if self.reduced:
            self.rough = table.bfloat16()
            self.longest = table.norm(dim=1).amax() if len(table) else table.new_zeros(())
            self.rounded = (table - self.rough).norm(dim=1).amax() if len(table) else table.new_zeros(())

    def nearest(self, vectors: Tensor, k: int, absolute: bool = False) -> tuple[Tensor, Tensor]:
        """The k largest products of each vector [m, d] (by absolute value if `absolute`), largest first.

        Returns the products with their signs, float32 [m, min(k, n)], and the rows' positions, int64.
        """
        k = min(k, len(self.table))
        candidates = 16 + 2 * k
        work = len(vectors) * self.table.numel()
        reduced = self.reduced and candidates < len(self.table) and (self.always or work >= WORTHWHILE)
        found = [
            self._reduced(block, k, candidates, absolute) if reduced else self._direct(block, k, absolute)
            for block in blocks(vectors, len(self.table))
        ]
        products, positions = zip(*found, strict=True)
        return torch.cat(products), torch.cat(positions)

    def _products(self, block: Tensor, table: Tensor, width: int) -> Tensor:
        """block @ table.T in the index's own memory, for one call: new memory each time takes up to half as long.

        `width`: of a row, at least the table's rows; the places that it adds hold -inf.
        """
        kind, rows = (table.dtype, width), len(block)
        room = self._rooms.get(kind)
        if room is None or len(room) < rows:
            room = self._rooms[kind] = table.new_empty(rows, width)
            room[:, len(table) :] = -torch.inf
        torch.mm(block, table.T, out=room[:rows, : len(table)])
        return room[:rows]

    def _direct(self, block: Tensor, k: int, absolute: bool) -> tuple[Tensor, Tensor]:
        # Rows that begin at multiples of LINE: else MKL takes up to half as long again.
        products = self._products(block, self.table, -(-len(self.table) // LINE) * LINE)
        real = products[:, : len(self.table)]
        if absolute:
            real.abs_()
        positions = _largest(products) if k == 1 else real.topk(k, dim=1).indices
        return _paired(block, self.table, positions), positions

    def _reduced(self, block: Tensor, k: int, candidates: int, absolute: bool) -> tuple[Tensor, Tensor]:
        rough = block.bfloat16()
        scores = self._products(rough, self.rough, len(self.rough))
        best, where = (scores.abs_() if absolute else scores).topk(candidates, dim=1)
        products = _paired(block, self.table, where)
        sizes, order = (products.abs() if absolute else products).topk(k, dim=1)
        # No row outside the candidates has a product above the last candidate's score and what rounding took.
        rounding = (block - rough).norm(dim=1) * self.longest + rough.float().norm(dim=1) * self.rounded
        last = best[:, -1].float()
        doubtful = sizes[:, -1] < last + last.abs() * ROUNDING + rounding
        products, positions = products.gather(1, order), where.gather(1, order)
        again = doubtful.nonzero().flatten()
        if len(again):
            products[again], positions[again] = self._direct(block[again], k, absolute)
        return products, positions


def _largest(rows: Tensor) -> Tensor:
    """Where the largest of each row is, [m, 1]; the width is a multiple of LINE. Four times as fast as `topk`."""
    lines = rows.view(len(rows), rows.shape[1] // LINE, LINE)
    line = lines.amax(dim=2).argmax(dim=1, keepdim=True)
    within = lines.gather(1, line[:, :, None].expand(-1, -1, LINE)).argmax(dim=2)
    return line * LINE + within


def _paired(vectors: Tensor, table: Tensor, positions: Tensor) -> Tensor:
    """The product of each vector [m, d] with its own rows of the table [m, c], float32 [m, c]."""
    # Small parts, a product and a sum: four times as fast here as batched matrix products.
    part = max(1, 2**20 // (positions.shape[1] * table.shape[1]))
    return torch.cat(
        [
            (table.index_select(0, where.flatten()).view(*where.shape, table.shape[1]) * vector[:, None]).sum(dim=2)
            for vector, where in zip(vectors.split(part), positions.split(part), strict=True)
        ]
    )
