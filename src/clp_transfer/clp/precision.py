"""Which products are fast on this processor: 16-bit ones, and by which library 32-bit ones."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import torch
from torch import Tensor
from torch.nn.functional import linear

# Rows that are multiplied at once, so that a block's product is still in the processor's cache when it is used.
ROWS = 512
# Terms that are summed at once: longer sums of oneDNN's round more than MKL's.
TERMS = 2048
# Below this many multiplications there is nothing to gain.
WORTHWHILE = 2**28


def fast_bfloat16_processor() -> bool:
    """Whether the processor has instructions for bfloat16 products; without them they are slower than float32's."""
    has = torch.cpu.get_capabilities()
    return bool(has.get("avx512_bf16") or has.get("amx_bf16"))


@cache
def slow_mkl() -> bool:
    """Whether MKL, which multiplies torch's float32 matrices, leaves this processor's 512-bit instructions unused.

    It does on AMD's; oneDNN, which torch has too, does not, and is twice as fast there.
    """
    has = torch.cpu.get_capabilities()
    amd = "AMD" in str(has.get("cpu_name", "")) and bool(has.get("avx512_f"))
    return amd and torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()


def products(rows: Tensor, onto: Tensor, fast: bool | None = None) -> Iterator[Tensor]:
    """rows [m, k] @ onto [n, k].T in float32, in blocks of at most ROWS rows; both may be transposed views.

    `fast`: whether by oneDNN; None: where that is faster. It sums in another order, as precisely.
    """
    if fast is None:
        work = len(rows) * onto.numel()
        fast = work >= WORTHWHILE and rows.device.type == onto.device.type == "cpu" and slow_mkl()
    if not fast:
        yield from (block @ onto.T for block in rows.split(ROWS))
        return
    count = max(1, -(-rows.shape[1] // TERMS))
    parts = [part.to_mkldnn() for part in onto.chunk(count, dim=1)]
    for block in rows.split(ROWS):
        pairs = zip(block.chunk(count, dim=1), parts, strict=True)
        first, *others = (linear(piece.to_mkldnn(), part).to_dense() for piece, part in pairs)
        yield sum(others, first)


def product(rows: Tensor, onto: Tensor, fast: bool | None = None) -> Tensor:
    """`products` as one table, [m, n]."""
    found = rows.new_empty(len(rows), len(onto))
    for block, part in zip(found.split(ROWS), products(rows, onto, fast), strict=True):
        block.copy_(part)
    return found
