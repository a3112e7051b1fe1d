"""From cosines to weights, and from weights to rows: what every neighbour method shares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from clp_transfer.clp.methods.neighbours import Index, blocks
from clp_transfer.clp.methods.problem import Origins

# So many of the largest weights of a row are kept for the report, where all tokens take part in it.
KEPT = 32
CACHED = 2**18


@dataclass(frozen=True)
class Weighting:
    """What is made of a token's cosines z with the overlapping tokens (`top_k`: only with its nearest; None: all).

    `plain`: z / Σz, after negative z are set to 0 where `negative` is `cut`; a token with no positive cosine then
    gets its nearest. `softmax`: of z / τ, τ the `temperature`. `sparsemax`: the point of the simplex nearest to
    z / τ, max(0, z/τ - θ) with θ such that the weights sum to one (Martins & Astudillo 2016, equation 2).
    """

    kind: str = "softmax"
    temperature: float = 0.1
    negative: str = "keep"
    top_k: int | None = None

    def of(self, cosines: Tensor) -> Tensor:
        """Weights that sum to one along the last dimension; plain ones that sum to exactly zero become zeros."""
        if self.kind == "softmax":
            return torch.softmax(cosines / self.temperature, dim=-1)
        if self.kind == "sparsemax":
            return sparsemax(cosines / self.temperature)
        if self.negative == "cut":
            best = cosines.amax(dim=-1, keepdim=True)
            cosines = torch.where(best > 0, cosines.clamp(min=0), (cosines == best).to(cosines.dtype))
        return (cosines / cosines.sum(dim=-1, keepdim=True)).nan_to_num(0.0, 0.0, 0.0)


def sparsemax(z: Tensor) -> Tensor:
    """The point of the probability simplex nearest to z [m, n], along the last dimension.

    Its threshold θ is the root of Σ max(0, z - θ) = 1, which falls and is convex: Newton's steps from max(z) - 1,
    which is never above the root, rise to it and end after finitely many, with no sorting.
    """
    # Parts that stay in the processor's cache over all steps.
    return torch.cat([_sparsemax(part) for part in z.split(max(1, CACHED // max(z.shape[1], 1)))])


def _sparsemax(z: Tensor) -> Tensor:
    z = z - z.amax(dim=1, keepdim=True)
    threshold = torch.full_like(z[:, :1], -1.0)
    support = torch.full_like(z[:, :1], torch.inf)
    while True:
        above = (z - threshold).clamp_(min=0)
        size = above.sign().sum(dim=1, keepdim=True)
        if not (size < support).any():
            return above
        support = torch.minimum(support, size)
        threshold += (above.sum(dim=1, keepdim=True) - 1) / size


@dataclass(frozen=True)
class Average:
    """`rows` float32 [m, d_s]; `origins`, which knows all weights of top-k rows and the KEPT largest of others.

    `nearest`: float32 [m], each token's largest cosine.
    """

    rows: Tensor
    origins: Callable[[int], Origins]
    nearest: Tensor


def average(known: Tensor, wanted: Tensor, source: Tensor, source_ids: Tensor, how: Weighting) -> Average:
    """Rows Σ_o w_to E_o with weights from the cosines of `wanted` [m, d] with `known` [n, d], both of unit rows.

    `source` [n, d_s] and `source_ids` [n] belong to `known`. The matrix of all cosines is never held as a whole.
    """
    if how.top_k is not None:
        cosines, positions = Index(known).nearest(wanted, how.top_k)
        weights = how.of(cosines)
        rows = combine(positions, weights, source)
    else:
        parts = [_dense(block @ known.T, source, how) for block in blocks(wanted, len(known))]
        rows, positions, weights, cosines = (torch.cat(each) for each in zip(*parts, strict=True))
    return Average(rows, listed(positions, weights, source_ids), cosines[:, :1].flatten())


def combine(positions: Tensor, weights: Tensor, source: Tensor) -> Tensor:
    """Σ_j weights[t, j] · source[positions[t, j]] for [m, k] positions and weights: float32 [m, d_s]."""
    if not positions.numel():
        return source.new_zeros(len(positions), source.shape[1])
    return embedding_bag(positions, source, per_sample_weights=weights.to(source.dtype), mode="sum")


def listed(positions: Tensor, weights: Tensor, source_ids: Tensor) -> Callable[[int], Origins]:
    """`Solution.origins` from weights [m, c] and the positions in `source_ids` that they belong to."""

    def origins(k: int) -> Origins:
        order = weights.abs().topk(min(k, weights.shape[1]), dim=1).indices
        kept, ids = weights.gather(1, order), source_ids[positions.gather(1, order)]
        return padded(Origins(torch.where(kept == 0, -1, ids), kept), k)

    return origins


def padded(origins: Origins, k: int) -> Origins:
    """The same with k columns: id -1 and weight 0 where there are fewer."""
    short = k - origins.ids.shape[1]
    ids = torch.nn.functional.pad(origins.ids, (0, short), value=-1)
    return replace(origins, ids=ids, weights=torch.nn.functional.pad(origins.weights, (0, short)))


def _dense(cosines: Tensor, source: Tensor, how: Weighting) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Rows from all overlapping tokens; the largest weights with their positions; the largest cosine."""
    weights = how.of(cosines)
    positions = weights.abs().topk(min(KEPT, weights.shape[1]), dim=1).indices
    return weights @ source, positions, weights.gather(1, positions), cosines.amax(dim=1, keepdim=True)
