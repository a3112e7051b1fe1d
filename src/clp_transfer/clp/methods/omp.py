"""Orthogonal matching pursuit: each new token as a sparse, signed sum of overlapping tokens."""

from __future__ import annotations

import torch
from torch import Tensor

from clp_transfer.clp.methods.neighbours import Index
from clp_transfer.clp.methods.problem import Problem, Solution
from clp_transfer.clp.methods.weighting import combine, listed

# Elements of the chosen atoms of a batch of tokens, and of its products: about 32 MB in float32, each. With half of
# that, products of few rows make the search take a seventh longer.
BATCH = 2**23
FITTED = 64  # tokens whose coefficients are computed at once, in float64
# A token is done when its residual is this small, an atom is dependent when so little of it is new, as shares.
ENOUGH = 1e-5
DEPENDENT = 1e-4


def solve(problem: Problem) -> Solution:
    """E_t = Σ_j c_tj E_j, where Σ_j c_tj h_j is the best approximation of h_t that greedy search finds.

    The default of mergekit's tokensurgeon. k = `atoms` times: take the overlapping token j whose helper row has the
    largest |⟨r, h_j⟩| with the residual r (rows as they are, so long ones are preferred), then fit all coefficients
    anew by least squares (Pati et al. 1993; Tropp & Gilbert 2007, algorithm 3). Signs are free and the coefficients
    need not sum to one. Needs a helper.

    All tokens of a batch advance together: one matrix product finds their next atoms, which are orthogonalised
    against those before (Gram-Schmidt); the coefficients are computed in float64 once all atoms are known.
    """
    known, wanted = problem.known.helper, problem.wanted.helper
    index = Index(known)
    atoms = min(problem.options.atoms, len(known))
    size = max(1, min(BATCH // max(1, atoms * known.shape[1]), BATCH // max(1, len(known))))
    positions = torch.zeros(len(wanted), atoms, dtype=torch.long, device=wanted.device)
    weights, left = wanted.new_zeros(len(wanted), atoms), wanted.new_zeros(len(wanted))
    # Made once: results of every batch among the large blocks that it frees would keep these from being used again.
    room = wanted.new_empty(min(size, len(wanted)), atoms, wanted.shape[1])
    for start in range(0, len(wanted), size):
        batch = slice(start, start + size)
        positions[batch], weights[batch], left[batch] = pursue(index, wanted[batch], atoms, room)
    rows = combine(positions, weights, problem.source)
    diagnostics = {"atoms_mean": 0.0, "unexplained_median": 0.0}
    if len(wanted):
        diagnostics["atoms_mean"] = float((weights != 0).sum(dim=1).float().mean())
        diagnostics["unexplained_median"] = float(left.median())
    return Solution(rows, diagnostics, origins=listed(positions, weights, problem.source_ids))


def pursue(index: Index, wanted: Tensor, atoms: int, room: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The atoms and coefficients of each vector [m, d]: positions int64 [m, atoms], coefficients float32.

    A vector that is matched before it has used all its atoms has coefficients of zero for the rest. The third is
    each vector's residual norm as a share of its own. `room` [≥ m, atoms, d] is overwritten.
    """
    length = wanted.norm(dim=1)
    residual, alive, left = wanted.clone(), length > 0, torch.ones_like(length)
    positions = torch.zeros(len(wanted), atoms, dtype=torch.long, device=wanted.device)
    used = torch.zeros(len(wanted), atoms, dtype=torch.bool, device=wanted.device)
    basis = room[: len(wanted)].zero_()
    for j in range(atoms):
        positions[:, j] = index.nearest(residual, 1, absolute=True)[1][:, 0]
        atom = index.table[positions[:, j]]
        new = _without(atom, basis[:, :j])
        size = new.norm(dim=1)
        # Where an atom adds nothing to those before it, none can: the residual is rounding.
        alive &= size > DEPENDENT * atom.norm(dim=1)
        used[:, j] = alive
        basis[:, j] = torch.where(alive[:, None], new / size[:, None], 0)
        residual -= (residual * basis[:, j]).sum(dim=1, keepdim=True) * basis[:, j]
        left = residual.norm(dim=1) / length
        alive &= left > ENOUGH
        if not alive.any():
            break
    return positions, _coefficients(index.table, positions, used, wanted), left


def _without(atom: Tensor, basis: Tensor) -> Tensor:
    """Each atom [m, d] without its part in the span of its basis, the rows of [m, j, d]."""
    # As rows times matrices: four times as fast on CPUs as matrices times columns.
    along = torch.bmm(atom[:, None], basis.transpose(1, 2))
    return atom - torch.bmm(along, basis)[:, 0]


def _coefficients(table: Tensor, positions: Tensor, used: Tensor, wanted: Tensor) -> Tensor:
    """Least squares over the used atoms of each vector by its normal equations in float64; float32 [m, atoms]."""
    found = []
    for where, mask, vector in zip(positions.split(FITTED), used.split(FITTED), wanted.split(FITTED), strict=True):
        atoms = table[where].double() * mask[:, :, None]
        gram = atoms @ atoms.transpose(1, 2) + torch.diag_embed((~mask).double())
        factor = torch.linalg.cholesky(gram)
        found.append(torch.cholesky_solve(atoms @ vector.double()[:, :, None], factor)[:, :, 0].float())
    return torch.cat(found)
