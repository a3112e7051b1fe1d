"""CLP: the paper's formula to the letter, in closed form, and its variants by options."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from clp_transfer.clp.methods import amplification
from clp_transfer.clp.methods.neighbours import Index, unit
from clp_transfer.clp.methods.problem import Origins, Problem, Solution
from clp_transfer.clp.methods.weighting import Weighting, average, padded
from clp_transfer.clp.precision import ROWS, product, products

EPSILON = 2.0**-24
# A row whose estimated rounding error is a larger share of its scale than this is made again in float64.
TOLERANCE = 1e-6
# A product's rounding error, estimated as this many times that of independent roundings.
SAFETY = 4.0


def solve(problem: Problem) -> Solution:
    """E_t = Σ_o w_to E_o with w_to = cos(h_t, h_o) / Σ_o' cos(h_t, h_o'), over all overlapping tokens o.

    Ostendorff & Rehm 2023, section 3, as their code has it: plain cosines, negative ones kept, normalised by
    their sum. With H̃ the row-normalised helper, it is E_M = H̃_M (H̃_Oᵀ E_O) / (H̃_M H̃_Oᵀ 1), exactly: no
    similarity matrix is needed. Needs a helper.

    Options: `weighting` softmax or sparsemax (of cosine / `temperature`), `negative=cut`, `top_k` (only the nearest
    tokens), `centre` (cosines after the overlap's mean helper row is taken away).
    """
    options = problem.options
    known, wanted = unit(problem.known.helper, problem.wanted.helper, options.centre)
    if options.weighting == "plain" and options.negative == "keep" and options.top_k is None:
        return _closed_form(problem, known, wanted)
    how = Weighting(options.weighting, options.temperature, options.negative, options.top_k)
    made = average(known, wanted, problem.source, problem.source_ids, how)
    median = float(made.nearest.median()) if len(wanted) else None
    return Solution(made.rows, {"nearest_cosine_median": median}, origins=made.origins)


def _closed_form(problem: Problem, known: Tensor, wanted: Tensor) -> Solution:
    totals = _totals(problem)
    rows = _rows(problem, known, wanted, totals)
    report = amplification.measure(known, wanted, totals)
    diagnostics, warnings = report.describe()

    def origins(k: int) -> Origins:
        cosines, positions = Index(known).nearest(wanted, k, absolute=True)
        weights = (cosines / totals[:, None]).nan_to_num(0.0, 0.0, 0.0).float()
        ids = torch.where(weights == 0, -1, problem.source_ids[positions])
        return padded(Origins(ids, weights), k)

    return Solution(rows, diagnostics, warnings, origins)


def _totals(problem: Problem) -> Tensor:
    """Σ_o cos(h_t, h_o) for each wanted token, float64: a sum that may cancel, so it is exact."""
    known, wanted = problem.known.helper, problem.wanted.helper
    mean = known.double().mean(dim=0) if problem.options.centre else None
    total = known.new_zeros(known.shape[1], dtype=torch.float64)
    for rows, lengths in _in_double(known, mean):
        total += (1 / lengths) @ rows
    return torch.cat([rows @ total / lengths for rows, lengths in _in_double(wanted, mean)])


def _in_double(rows: Tensor, mean: Tensor | None) -> Iterator[tuple[Tensor, Tensor]]:
    """Rows in float64 and their lengths, as `normalize` takes them, in blocks that stay in the processor's cache."""
    for block in rows.split(256):
        exact = block.double() if mean is None else block.double() - mean
        yield exact, torch.linalg.vector_norm(exact, dim=1).clamp_min_(1e-12)


def _rows(problem: Problem, known: Tensor, wanted: Tensor, totals: Tensor) -> Tensor:
    """The rows in float32; those few that cancellation would spoil, in float64.

    A total of exactly zero has no weights at all: the original's row is then NaN, ours is zero.
    """
    source = problem.source
    mixed = product(source.T, known.T)  # [d_s, d_h]
    # In two steps: one float32 sum over the whole table loses its third digit.
    scale = torch.linalg.vector_norm(torch.linalg.vector_norm(source, dim=1)) / source.numel() ** 0.5
    # Per helper dimension, the mean square of `mixed`, and of what float32 may have lost in summing it up.
    spread = mixed.square().mean(dim=0) + known.square().sum(dim=0) * scale**2
    rows, spoiled = source.new_empty(len(wanted), source.shape[1]), []
    # Block by block, so that a product is divided while it is still in the processor's cache.
    blocks = (each.split(ROWS) for each in (wanted, totals, rows))
    for vectors, total, out, sums in zip(*blocks, products(wanted, mixed), strict=True):
        rounding = SAFETY * EPSILON * (vectors.square() @ spread).sqrt()
        size = torch.maximum(total.abs() * scale, torch.linalg.vector_norm(sums, dim=1) / source.shape[1] ** 0.5)
        spoiled.append(rounding > TOLERANCE * size)
        torch.div(sums, total[:, None].float(), out=out).nan_to_num_(0.0, 0.0, 0.0)
    chosen = torch.cat(spoiled).nonzero().flatten()
    if len(chosen):
        rows[chosen] = _exact(problem, chosen, totals[chosen])
    return rows


def _exact(problem: Problem, chosen: Tensor, totals: Tensor) -> Tensor:
    """The rows of the chosen wanted tokens, computed in float64, in whichever order costs less."""
    known, wanted = problem.known.helper.double(), problem.wanted.helper[chosen].double()
    known, wanted = unit(known, wanted, problem.options.centre)
    source = problem.source.double()
    few = len(chosen) * (known.shape[1] + source.shape[1]) < known.shape[1] * source.shape[1]
    mixed = None if few else known.T @ source
    rows = []
    for block, total in zip(wanted.split(1024), totals.split(1024), strict=True):
        sums = (block @ known.T) @ source if mixed is None else block @ mixed
        rows.append((sums / total[:, None]).nan_to_num(0.0, 0.0, 0.0).float())
    return torch.cat(rows)
