"""A linear map from the helper's space to the source's, fitted on the tokens that both have."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from clp_transfer.clp.methods.fvt import means
from clp_transfer.clp.methods.problem import Problem, Side, Solution
from clp_transfer.errors import UserError

# Penalties to choose from, as shares of the features' mean variance, and on how many tokens they are compared.
PENALTIES = tuple(10.0**exponent for exponent in (-4, -3.5, -3, -2.5, -2, -1.5, -1, -0.5, 0, 0.5, 1))
COMPARED = 2048
FEATURES = ("helper", "pieces")
TINY = 1e-30


def solve(problem: Problem) -> Solution:
    """E_t = μ_E + (x_t − μ_x) W with W = argmin Σ_o v_o ‖E_o − μ_E − (x_o − μ_x) W‖² + λ‖W‖².

    CLP is also a linear map of the helper's row, but one that nothing fits; this is the fitted one (ridge regression,
    Hoerl & Kennard 1970). x is the helper's row, the mean of the source's pieces of the token (for an overlapping
    token: of its pieces without itself), or both, each scaled to unit variance (`features`). λ = `ridge` times the
    features' mean variance; null chooses it by the leave-one-out error, which has a closed form. v_o is the
    token's count in the text, plus one, to the power `frequency_power`, as a share; the means μ are weighted by it.

    Raises UserError for features that there are not.
    """
    options = problem.options
    known, wanted = _features(problem)
    weights = _weights(problem)
    mean_x, mean_y = weights @ known, weights.float() @ problem.source
    x, y = known - mean_x, problem.source - mean_y
    fit = _fit(x, y, weights)
    diagnostics: dict[str, float] = {}
    penalty = options.ridge
    if penalty is None:
        errors = _left_out(fit, x, y, weights)
        penalty = min(errors, key=lambda p: errors[p])
        diagnostics["left_out_error"] = errors[penalty]
    mapped = fit.vectors @ (fit.cross / fit.shrunk(penalty)[:, None])
    rows = mean_y + (wanted - mean_x.float()) @ mapped.float()
    return Solution(rows, {"penalty": penalty, "explained_variance_on_overlap": fit.explained(penalty)} | diagnostics)


@dataclass(frozen=True)
class _Fit:
    """Least squares for every penalty at once, float64: XᵀVX = U diag(values) Uᵀ and cross = UᵀXᵀVY.

    `values` [d_f], `vectors` U [d_f, d_f], `cross` [d_f, d_s], `total`: Σ_o v_o ‖y_o‖².
    """

    values: Tensor
    vectors: Tensor
    cross: Tensor
    total: float

    def shrunk(self, penalty: float) -> Tensor:
        """The eigenvalues with the penalty, [d_f]; the map is U (cross / shrunk)."""
        return self.values + penalty * self.values.mean().clamp(min=TINY)

    def explained(self, penalty: float) -> float:
        """Share of the overlapping rows' variance that the map explains on the tokens it was fitted to."""
        mapped = self.cross / self.shrunk(penalty)[:, None]
        explained = 2 * (mapped * self.cross).sum() - (mapped.square().sum(dim=1) @ self.values)
        return float(explained) / max(self.total, TINY)


def _fit(x: Tensor, y: Tensor, weights: Tensor) -> _Fit:
    """From centred features, float64 [known, d_f], and centred rows, float32 [known, d_s]."""
    weighted = x * weights[:, None]
    values, vectors = torch.linalg.eigh(weighted.T @ x)
    cross = vectors.T @ (weighted.float().T @ y).double()
    return _Fit(values.clamp(min=0), vectors, cross, float(weights.float() @ y.square().sum(dim=1)))


def _features(problem: Problem) -> tuple[Tensor, Tensor]:
    """What is mapped from: float64 [known, d_f] and float32 [wanted, d_f], each kind with a mean variance of one."""
    kinds = problem.options.with_defaults().features
    if not kinds or set(kinds) - set(FEATURES):
        raise UserError(f"method.features={kinds} makes no sense", f"choose from {', '.join(FEATURES)}")

    def feature(side: Side, kind: str) -> Tensor:
        return side.helper if kind == "helper" else means(side.pieces, problem)

    known, wanted = [], []
    for kind in kinds:
        rows, new = feature(problem.known, kind).double(), feature(problem.wanted, kind)
        spread = rows.var(dim=0, correction=0).mean().sqrt()
        if spread <= 1e-6 * rows.square().mean().sqrt():  # all alike: nothing but rounding to scale up
            spread = torch.ones_like(spread)
        known.append(rows / spread)
        wanted.append(new / spread.float())
    return torch.cat(known, dim=1), torch.cat(wanted, dim=1)


def _weights(problem: Problem) -> Tensor:
    """The share of each overlapping token in the fit, float64 [known], summing to one."""
    counts = problem.known.counts
    if counts is None or not problem.options.reads_counts:
        share = 1.0 / len(problem.known)
        return problem.source.new_full((len(problem.known),), share, dtype=torch.float64)
    raw = (counts.double() + 1).pow(problem.options.frequency_power or 0.0)
    return raw / raw.sum()


def _left_out(fit: _Fit, x: Tensor, y: Tensor, weights: Tensor) -> dict[float, float]:
    """By penalty, the relative squared error of evenly spaced tokens' rows when predicted without themselves.

    A token's error is its residual over 1 − leverage. ‖y − zM‖² = ‖y‖² − 2 z·My + zMMᵀzᵀ for z = xU and
    M = cross / shrunk: with MMᵀ from cross·crossᵀ, no penalty needs a product as wide as the source.
    """
    chosen = torch.linspace(0, len(x) - 1, min(COMPARED, len(x)), device=x.device).long()
    z, rows, share = x[chosen] @ fit.vectors, y[chosen].double(), weights[chosen]
    length, along, gram = rows.square().sum(dim=1), rows @ fit.cross.T, fit.cross @ fit.cross.T
    total = float(share @ length)
    errors = {}
    for penalty in PENALTIES:
        shrunk = fit.shrunk(penalty)
        fitted = z / shrunk
        residual = length - 2 * (fitted * along).sum(dim=1) + ((fitted @ gram) * fitted).sum(dim=1)
        leverage = share * ((fitted * z).sum(dim=1) + 1)
        left_out = residual.clamp(min=0) / (1 - leverage).clamp(min=1e-6).square()
        errors[penalty] = float(share @ left_out) / max(total, TINY)
    return errors
