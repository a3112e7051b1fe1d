"""How far new rows lie from the mean, on rows whose distances can be worked out by hand."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file

from clp_transfer.ablations.spread import spread

# Three copied rows with mean (2, 0) and squared distances 1, 1, 0 from it: 2/3 on average.
COPIED = [[2.0, 1.0], [2.0, -1.0], [2.0, 0.0]]


def folder(path: Path, new: list[list[float]]) -> Path:
    rows = torch.tensor(COPIED + new, dtype=torch.bfloat16)
    save_file({"model.embed_tokens.weight": rows}, path / "model.safetensors")
    made = ["copied", "special", "copied"] + ["clp"] * len(new)
    pq.write_table(pa.table({"id": pa.array(range(len(made)), pa.int32()), "made": made}), path / "provenance.parquet")
    return path


def test_distances_are_measured_against_those_of_copied_rows(tmp_path: Path) -> None:
    found = spread(folder(tmp_path, [[2.0, 0.0], [2.0, 2.0], [4.0, 0.0]]))
    assert found["spread"] == pytest.approx(4 / (2 / 3))
    assert found["spread_mean"] == pytest.approx(8 / 3 / (2 / 3))
    assert found["cosine_to_mean"] == pytest.approx(1.0)


def test_the_mean_itself_has_none(tmp_path: Path) -> None:
    assert spread(folder(tmp_path, [[2.0, 0.0]])) == {"spread": 0.0, "spread_mean": 0.0, "cosine_to_mean": 1.0}


def test_nothing_is_said_of_what_made_no_rows(tmp_path: Path) -> None:
    assert spread(tmp_path) == {}
    assert spread(folder(tmp_path, [])) == {}
