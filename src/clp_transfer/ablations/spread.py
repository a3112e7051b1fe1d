"""How far a transfer's new rows lie from the mean of the overlapping ones: what a method adds to `mean`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from safetensors import safe_open

KEPT = ("copied", "special")  # `made` of rows that are the source's own
TABLES = ("model.embed_tokens.weight", "transformer.wte.weight")


def spread(init: Path) -> dict[str, float]:
    """Of the rows that were made, float64, with m the mean of the copied rows o:

    `spread` and `spread_mean`: median and mean of |r - m|² / E|o - m|² (a row like the copied ones has 1, m itself 0);
    `cosine_to_mean`: median of cos(r, m). Empty where nothing was made, as by scratch, or the table is not found.
    """
    table = init / "provenance.parquet"
    if not table.is_file():
        return {}
    columns = pq.read_table(table, columns=["id", "made"])
    ids = columns["id"].to_numpy()
    made = ~np.isin(np.asarray(columns["made"].to_pylist()), KEPT)
    rows = _rows(init / "model.safetensors")
    if rows is None or not made.any() or made.all():
        return {}
    mean = rows[ids[~made]].mean(axis=0)
    new, natural = rows[ids[made]], np.square(rows[ids[~made]] - mean).sum(axis=1).mean()
    distance = np.square(new - mean).sum(axis=1) / natural
    cosine = new @ mean / (np.linalg.norm(new, axis=1) * np.linalg.norm(mean))
    return {
        "spread": float(np.median(distance)),
        "spread_mean": float(distance.mean()),
        "cosine_to_mean": float(np.median(cosine)),
    }


def _rows(path: Path) -> NDArray[np.float64] | None:
    """The input embedding, [rows, width]."""
    if not path.is_file():
        return None
    with safe_open(path, framework="pt") as file:
        found = set(TABLES).intersection(file.keys())
        return file.get_tensor(found.pop()).double().numpy() if found else None
