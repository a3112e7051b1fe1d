"""Where CLP's formula breaks down: tokens whose weights nearly cancel, counted exactly without all cosines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from clp_transfer.clp.methods.neighbours import blocks
from clp_transfer.clp.precision import ROWS, product, products

# Weights whose absolute values sum to more than this are far from an average: the row is blown up.
LIMIT = 10.0
SAMPLE = 512
# Sums in float32 closer to the limit than this, as a share, are made again in float64.
MARGIN = 1e-4
# Overlapping tokens whose cosines enter the lower bound as one sum.
GROUP = 16


@dataclass(frozen=True)
class Amplification:
    """Σ_o |w_to|, which is 1 for an average.

    `count` (tokens above LIMIT) is exact; `median` is over at most SAMPLE evenly spaced tokens; `largest` is exact
    where a token is above the limit, else over that sample. Tokens without weights, whose cosines sum to exactly
    zero, are in `count` and `empty` only.
    """

    tokens: int
    count: int
    empty: int
    largest: float
    median: float

    def describe(self) -> tuple[dict[str, Any], list[str]]:
        """Diagnostics for the report, and a warning if any token is ill-conditioned."""
        diagnostics = {
            "ill_conditioned": self.count,
            "without_weights": self.empty,
            "amplification_median_sampled": self.median,
            "amplification_max": self.largest,
        }
        if not self.count:
            return diagnostics, []
        warning = (
            f"for {self.count:,} of {self.tokens:,} new tokens the cosines nearly cancel (their weights' absolute "
            f"values sum to more than {LIMIT:g}, at most {self.largest:,.0f}): those rows are blown up, not averaged. "
            "The formula is fragile with this helper; clp-topk and ridge are not."
        )
        return diagnostics, [warning]


def measure(known: Tensor, wanted: Tensor, totals: Tensor) -> Amplification:
    """The amplification Σ_o |cos(h_t, h_o)| / |Σ_o cos(h_t, h_o)| of CLP's weights.

    `known` [n, d] and `wanted` [m, d] have unit rows; `totals` float64 [m] are the denominators. The numerator is at
    most n and at most sqrt(n · h̃ᵀGh̃), G = H̃_OᵀH̃_O (Cauchy-Schwarz), which clears most tokens of a sound helper;
    it is at least Σ_g |h̃ · Σ_{o ∈ g} h̃_o| over groups g (triangle inequality), which convicts most of an unsound
    one. Only between the two are all cosines of a token computed.
    """
    filled = totals.abs() > 0
    empty = len(totals) - int(filled.sum())
    # Most often all: nothing to copy.
    wanted, totals = (wanted[filled], totals[filled].abs()) if empty else (wanted, totals.abs())
    if not len(wanted):
        return Amplification(empty, empty, empty, 0.0, 0.0)
    bounds = _upper_bounds(known, wanted, totals)
    doubtful = (bounds > LIMIT).nonzero().flatten()
    count = _count(known, wanted[doubtful], totals[doubtful])
    sample = torch.linspace(0, len(wanted) - 1, min(SAMPLE, len(wanted)), device=wanted.device).long()
    sampled = _absolute(known, wanted[sample]) / totals[sample]
    largest = float(sampled.amax())
    if count:
        largest = _largest(known, wanted, totals, bounds, largest)
    return Amplification(len(wanted) + empty, count + empty, empty, largest, float(sampled.median()))


def _absolute(known: Tensor, wanted: Tensor) -> Tensor:
    """Σ_o |cos(h_t, h_o)| for each token, float64."""
    parts = [torch.linalg.vector_norm(block @ known.T, ord=1, dim=1) for block in blocks(wanted, len(known))]
    return torch.cat(parts).double()


def _upper_bounds(known: Tensor, wanted: Tensor, totals: Tensor) -> Tensor:
    """What the amplification is at most, float64; the closer bound only where the simple one exceeds the limit."""
    bounds = len(known) / totals
    open_ = (bounds > LIMIT).nonzero().flatten()
    if len(open_):
        gram, chosen = product(known.T, known.T), wanted[open_]
        pairs = zip(products(chosen, gram), chosen.split(ROWS), strict=True)
        squares = torch.cat([(mapped * block).sum(dim=1) for mapped, block in pairs])
        # The margin covers float32's rounding.
        closer = (1 + MARGIN) * (len(known) * squares.clamp(min=0).double()).sqrt() / totals[open_]
        bounds[open_] = torch.minimum(bounds[open_], closer)
    return bounds


def _count(known: Tensor, wanted: Tensor, totals: Tensor) -> int:
    """How many of these tokens are above the limit."""
    groups = torch.stack([part.sum(dim=0) for part in known.split(GROUP)])
    above = _absolute(groups, wanted) > (1 + MARGIN) * LIMIT * totals
    rest = (~above).nonzero().flatten()
    ratios = _absolute(known, wanted[rest]) / totals[rest]
    close = ((ratios - LIMIT).abs() <= MARGIN * LIMIT).nonzero().flatten()
    if len(close):
        ratios[close] = _absolute(known.double(), wanted[rest[close]].double()) / totals[rest[close]]
    return int(above.sum()) + int((ratios > LIMIT).sum())


def _largest(known: Tensor, wanted: Tensor, totals: Tensor, bounds: Tensor, largest: float) -> float:
    """The largest amplification of all: tokens in the order of their bounds, until no bound is above the largest."""
    for part in bounds.argsort(descending=True).split(64):
        if float(bounds[part[0]]) <= largest:
            break
        largest = max(largest, float((_absolute(known, wanted[part]) / totals[part]).amax()))
    return largest
