"""The methods on bare tables, torch or NumPy: for models that live elsewhere."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clp_transfer.clp.api import method_config
from clp_transfer.clp.job import MethodConfig
from clp_transfer.clp.methods.problem import Problem, Side
from clp_transfer.clp.transfer import solve
from clp_transfer.clp.vocabulary.keys import Key
from clp_transfer.errors import UserError

# Those that need nothing but rows.
ROWS_ONLY = ("clp", "clp-topk", "ridge", "procrustes", "omp", "mean", "gaussian", "random")


class TableInMemory:
    """A source table that is already there."""

    def __init__(self, table: Tensor) -> None:
        self.table = table
        self.width = table.shape[1]

    def rows(self, ids: Tensor) -> Tensor:
        """Rows by id, float32."""
        return self.table[ids.to(self.table.device)].float()

    def spread(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation per dimension, float64."""
        deviation, mean = torch.std_mean(self.table.double(), dim=0, correction=min(1, len(self.table) - 1))
        return mean, deviation

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and covariance, float64, divided as a checkpoint's are."""
        rows = self.table.double()
        covariance = torch.cov(rows.T, correction=min(1, len(rows) - 1))
        return rows.mean(dim=0), covariance.reshape(self.width, self.width)


def transfer_rows(
    source: Any, helper: Any, shared: Mapping[int, int], method: str = "clp", *, seed: int = 1, **options: Any
) -> Any:
    """A target table from a source's and a helper's: copies for the shared tokens, made rows for the others.

    `source`: [V_s, d_s] and `helper`: [V_t, d_h] of floats, torch tensors or NumPy arrays; `shared`: target id to
    source id; `options` as for `transfer`. Returns [V_t, d_s] of the source's kind, dtype and device; rows are made in
    float32. Raises UserError for a method or an option that needs more than rows, for shapes, types and ids that do
    not fit, and for rows with NaN or infinity.
    """
    config = method_config(method, options)
    _check_method(config)
    src, hlp = _tensor(source, "source"), _tensor(helper, "helper")
    _check(src, hlp, shared)
    hlp = hlp.to(src.device).float()
    known = torch.tensor(sorted(shared), dtype=torch.long)
    ids = torch.tensor([shared[index] for index in known.tolist()], dtype=torch.long)
    wanted = torch.tensor([index for index in range(len(hlp)) if index not in shared], dtype=torch.long)
    table = TableInMemory(src)

    def side(index: Tensor) -> Side:
        return Side(hlp[index.to(src.device)], [Key(b"", False)] * len(index), lambda: [[]] * len(index))

    generator = torch.Generator().manual_seed(seed)
    rows = table.rows(ids)
    problem = Problem(side(known), side(wanted), rows, ids.to(src.device), table, config, generator)
    finished = torch.empty(len(hlp), src.shape[1], dtype=src.dtype, device=src.device)
    finished[known] = src[ids]
    finished[wanted] = solve(problem).rows.to(src.dtype)
    return finished.numpy() if isinstance(source, np.ndarray) else finished


def _check_method(config: MethodConfig) -> None:
    """Raise UserError for what needs a tokenizer or a text."""
    remedy = "use transfer(), which reads tokenizers and text"
    if config.name not in ROWS_ONLY:
        raise UserError(
            f"method={config.name} needs more than rows", f"choose from {', '.join(ROWS_ONLY)}, or {remedy}"
        )
    if config.name == "ridge" and "pieces" in (config.features or []):
        raise UserError(f"features={config.features} needs more than rows", f"leave it at helper, or {remedy}")
    if config.reads_counts:
        raise UserError(f"frequency_power={config.frequency_power} needs a text", f"leave it at 0, or {remedy}")


def _tensor(table: Any, name: str) -> Tensor:
    """A tensor over the same memory; raises UserError for anything but floats."""
    try:
        with warnings.catch_warnings():  # of NumPy arrays that must not be written: nothing is
            warnings.simplefilter("ignore", UserWarning)
            tensor = torch.as_tensor(table)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"the {name} is no table of numbers: {error}", "give a torch tensor or NumPy array") from error
    if not tensor.is_floating_point():
        raise UserError(f"the {name} holds {tensor.dtype}, not floats", "give a table of floats")
    return tensor.detach()


def _check(source: Tensor, helper: Tensor, shared: Mapping[int, int]) -> None:
    if source.dim() != 2 or helper.dim() != 2:
        shapes = f"{tuple(source.shape)} and {tuple(helper.shape)}"
        raise UserError(f"the tables have shapes {shapes}", "give two of [tokens, width]")
    for name, table in (("source", source), ("helper", helper)):
        broken = (~torch.isfinite(table)).any(dim=1).nonzero().flatten().tolist()
        if broken:
            raise UserError(f"{len(broken)} rows of the {name} have NaN or infinity (first: {broken[:5]})", "mend them")
    if not shared:
        raise UserError("no token is shared, so nothing can be transferred", "map a target id to a source id")
    inside = set(shared) <= set(range(len(helper))) and set(shared.values()) <= set(range(len(source)))
    if not inside:
        raise UserError(
            f"shared names ids outside the tables ({len(helper)} target and {len(source)} source rows)",
            "map target ids (rows of helper) to source ids (rows of source)",
        )
