"""How far a transfer's new rows lie from the mean of the overlapping ones: what a method adds to `mean`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import torch
from torch import Tensor

from clp_transfer.clp.checkpoint.table import Table
from clp_transfer.clp.checkpoint.weights import FORMATS
from clp_transfer.clp.models import Model
from clp_transfer.clp.provenance import COPIED, NAME, SPECIAL, UNUSED

BLOCK = 8192  # rows that are held at once


def spread(init: Path) -> dict[str, float]:
    """Of the rows of the input table that the method made, float64, with m the mean of the copied rows o:

    `spread` and `spread_mean`: median and mean of |r - m|² / E|o - m|² (a row like the copied ones has 1, m itself 0);
    `cosine_to_mean`: median of cos(r, m). Rows of ids without a token are neither. Empty where nothing was made, as by
    scratch and by own, and where no weights are left.

    Raises UserError for weights without an input table.
    """
    if not (init / NAME).is_file() or not any((init / name).is_file() for name in FORMATS):
        return {}
    columns = parquet.read_table(init / NAME, columns=["id", "made"])
    ids, made = columns["id"].to_numpy(), np.asarray(columns["made"].to_pylist())
    copied = np.isin(made, (COPIED, SPECIAL))
    new = ~copied & (made != UNUSED)
    if not new.any() or not copied.any():
        return {}
    model = Model.open(init, "the transferred model")
    table = model.table(model.layout.input, len(ids))
    mean = sum(rows.sum(0) for rows in _blocks(table, ids[copied])) / copied.sum()
    natural = float(sum((rows - mean).square().sum() for rows in _blocks(table, ids[copied]))) / copied.sum()
    distances, cosines = [], []
    for rows in _blocks(table, ids[new]):
        distances.append((rows - mean).square().sum(1) / natural)
        cosines.append(rows @ mean / (rows.norm(dim=1) * mean.norm()))
    distance, cosine = torch.cat(distances).numpy(), torch.cat(cosines).numpy()
    return {
        "spread": float(np.median(distance)),
        "spread_mean": float(distance.mean()),
        "cosine_to_mean": float(np.median(cosine)),
    }


def _blocks(table: Table, ids: np.ndarray) -> Iterator[Tensor]:
    """The rows of these ids, float64, a block at a time."""
    for some in torch.from_numpy(ids.astype(np.int64)).split(BLOCK):
        yield table.rows(some).double()
