"""How far new rows lie from the mean: by hand, and by NumPy over the whole table of every family's naming."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny.families import FAMILIES, save_family

from clp_transfer.ablations import spread as module
from clp_transfer.ablations.spread import spread

# Three copied rows with mean (2, 0) and squared distances 1, 1, 0 from it: 2/3 on average.
COPIED = [[2.0, 1.0], [2.0, -1.0], [2.0, 0.0]]
WIDTH = 16


def listed(path: Path, made: list[str]) -> None:
    parquet.write_table(
        pa.table({"id": pa.array(range(len(made)), pa.int32()), "made": made}), path / "provenance.parquet"
    )


def folder(path: Path, new: list[list[float]], unused: list[list[float]] | None = None) -> Path:
    """A model of these rows in bfloat16, zeros in all dimensions but two."""
    unused = unused or []
    rows = torch.zeros(3 + len(new) + len(unused), WIDTH)
    rows[:, :2] = torch.tensor(COPIED + new + unused)
    family = save_family("llama-tied", path, len(rows))
    file = path / "model.safetensors"
    save_file(load_file(file) | {family.input: rows.bfloat16()}, file)
    listed(path, ["copied", "special", "copied"] + ["clp"] * len(new) + ["unused"] * len(unused))
    return path


def test_distances_are_measured_against_those_of_copied_rows(tmp_path: Path) -> None:
    found = spread(folder(tmp_path, [[2.0, 0.0], [2.0, 2.0], [4.0, 0.0]]))
    assert found["spread"] == pytest.approx(4 / (2 / 3))
    assert found["spread_mean"] == pytest.approx(8 / 3 / (2 / 3))
    assert found["cosine_to_mean"] == pytest.approx(1.0)


def test_the_mean_itself_has_none(tmp_path: Path) -> None:
    assert spread(folder(tmp_path, [[2.0, 0.0]])) == {"spread": 0.0, "spread_mean": 0.0, "cosine_to_mean": 1.0}


def test_rows_of_ids_without_a_token_count_as_neither(tmp_path: Path) -> None:
    """Neither as new rows nor in the mean and the distances of the copied ones."""
    plain = spread(folder(tmp_path / "plain", [[2.0, 2.0], [4.0, 0.0], [2.0, 0.0]]))
    gaps = spread(folder(tmp_path / "gaps", [[2.0, 2.0], [4.0, 0.0], [2.0, 0.0]], [[99.0, 7.0], [-50.0, 0.0]]))
    assert gaps == plain
    assert spread(folder(tmp_path / "only", [], [[99.0, 7.0]])) == {}


def expected(rows: np.ndarray, made: list[str]) -> dict[str, float]:
    copied = np.array([r for r, how in zip(rows, made, strict=False) if how in ("copied", "special")])
    new = [r for r, how in zip(rows, made, strict=False) if how == "ridge"]
    mean = copied.mean(axis=0)
    natural = np.mean([np.linalg.norm(o - mean) ** 2 for o in copied])
    distances = [np.linalg.norm(r - mean) ** 2 / natural for r in new]
    cosines = [np.dot(r, mean) / np.sqrt(np.dot(r, r) * np.dot(mean, mean)) for r in new]
    return {
        "spread": float(np.median(distances)),
        "spread_mean": float(np.mean(distances)),
        "cosine_to_mean": float(np.median(cosines)),
    }


@pytest.mark.parametrize("name", sorted({"gpt2", "bloom", "gpt-neox", "opt", "llama-untied", "smollm"} & set(FAMILIES)))
def test_every_familys_table_is_found_and_read_in_blocks(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In shards, in half precision as in full, with rows beyond the tokens that no one lists."""
    monkeypatch.setattr(module, "BLOCK", 7)
    family = save_family(name, tmp_path, 50, save={"max_shard_size": "4KB"})
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    stored = {key: value for path in tmp_path.glob("*.safetensors") for key, value in load_file(path).items()}
    rows = stored[family.input if family.input in stored else family.input.partition(".")[2]].double().numpy()
    kinds = ["copied", "ridge", "special", "ridge", "unused", "ridge"]
    made = [kinds[i] for i in np.random.default_rng(0).integers(len(kinds), size=47)]
    listed(tmp_path, made)
    assert spread(tmp_path) == pytest.approx(expected(rows, made), rel=1e-12)


def test_nothing_is_said_of_what_made_no_rows(tmp_path: Path) -> None:
    assert spread(tmp_path) == {}
    made = folder(tmp_path, [[2.0, 2.0]])
    assert spread(made)
    (made / "model.safetensors").unlink()
    assert spread(made) == {}
    assert spread(folder(tmp_path, [])) == {}
