"""A head with a bias: its bias is one more column of its table, and so is made like the rest of the row."""

from __future__ import annotations

import torch
from torch import Tensor

from clp_transfer.clp.methods.problem import SourceTable


class WithBias:
    """A table [V_s, d_s] with a vector [V_s] as its last column."""

    def __init__(self, table: SourceTable, bias: Tensor) -> None:
        self.table, self.bias = table, bias.float()
        self.width = table.width + 1

    def rows(self, ids: Tensor) -> Tensor:
        """Rows with their bias, float32 [n, d_s + 1]."""
        return torch.cat([self.table.rows(ids), self.bias[ids.cpu()][:, None]], dim=1)

    def spread(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation, the bias's with them."""
        mean, deviation = self.table.spread()
        own_mean, own_variance = self._own()
        return torch.cat([mean, own_mean.to(mean)]), torch.cat([deviation, own_variance.sqrt().to(mean)])

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and covariance of the table; the bias is taken to vary on its own."""
        mean, covariance = self.table.moments()
        own_mean, own_variance = self._own()
        return torch.cat([mean, own_mean.to(mean)]), torch.block_diag(covariance, own_variance[None].to(mean))

    def _own(self) -> tuple[Tensor, Tensor]:
        """Mean and variance of the bias over the real tokens, [1] each, divided as the table's covariance is."""
        real = self.bias[: getattr(self.table, "real", len(self.bias))].double()
        return real.mean()[None], real.var(correction=min(1, len(real) - 1))[None]
