"""Where rows came from: the Parquet table re-read; its weights times the source's rows must give the rows."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

import clp_transfer
from clp_transfer.clp.provenance import NAME, TOP, explain, read_provenance
from clp_transfer.errors import UserError

INPUT, HEAD = "model.embed_tokens.weight", "lm_head.weight"
Rows = list[dict[str, Any]]


def stored(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def saved(source: Path, helper: Path, out: Path, method: str, **options: Any) -> tuple[Rows, dict[str, torch.Tensor]]:
    """Transfer and save; the Parquet file's rows as pyarrow alone reads them, and the stored tensors."""
    clp_transfer.transfer(source, helper, method, **options).save(out)
    return parquet.read_table(out / NAME).to_pylist(), stored(out)


def rebuilt(row: dict[str, Any], table: torch.Tensor, prefix: str = "") -> torch.Tensor:
    weights = torch.tensor(row[f"{prefix}weights"])
    return (weights[:, None] * table[row[f"{prefix}source_ids"]]).sum(dim=0)


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("clp-topk", {"top_k": TOP}),
        ("clp-topk", {"top_k": TOP, "norms": "source"}),
        ("fvt", {}),
        ("omp", {"atoms": TOP}),
        ("clp", {"top_k": 3}),
    ],
)
def test_weights_times_source_rows_give_the_rows(world, tmp_path: Path, method: str, options: dict) -> None:
    """For the input and for a head of its own; where a token has more pieces than are listed, its weights say so."""
    rows, made = saved(world.untied, world.helper, tmp_path / "out", method, **options)
    source = stored(world.untied)
    vocabularies = [AutoTokenizer.from_pretrained(folder).get_vocab() for folder in (world.untied, world.helper)]
    names = [{index: token for token, index in vocabulary.items()} for vocabulary in vocabularies]
    assert [row["id"] for row in rows] == sorted(names[1])
    checked = 0
    for row in rows:
        assert row["token"] == names[1][row["id"]]
        copied = vocabularies[0].get(row["token"])
        for prefix, name in (("", INPUT), ("head_", HEAD)):
            found = made[name][row["id"]]
            assert row[f"{prefix}norm"] == pytest.approx(float(found.norm()), rel=1e-5)
            ids, weights = row[f"{prefix}source_ids"], row[f"{prefix}weights"]
            assert len(ids) == len(weights) == len(row[f"{prefix}source_tokens"]) <= TOP
            assert [abs(w) for w in weights] == sorted([abs(w) for w in weights], reverse=True)
            if copied is not None:
                assert (ids, weights, row["made"]) == ([copied], [1.0], "special" if copied == 0 else "copied")
            elif method != "fvt" or sum(weights) > 0.999:
                assert row["made"] == method
                torch.testing.assert_close(rebuilt(row, source[name], prefix), found, rtol=1e-4, atol=1e-5)
                checked += 1
    assert checked > 20


def test_tokens_are_written_as_they_are_read(world, tmp_path: Path) -> None:
    rows, _ = saved(world.source, world.helper, tmp_path / "out", "fvt")
    tokenizer = AutoTokenizer.from_pretrained(world.source)
    special, *others = rows
    assert (special["token"], special["text"], special["class"]) == ("<|endoftext|>", None, "special")
    texts = {row["token"]: row["text"] for row in others}
    assert texts["Ġhaus"] == " haus" and texts["ĠstraÃŁe"] == " straße" and texts["a"] == "a"
    assert texts["Ã"] is None  # the first byte of a character
    classes = {row["token"]: row["class"] for row in others}
    assert (classes["Ġhaus"], classes["a"], classes["7"], classes["!"], classes["Ã"]) == (
        "word",
        "continuation",
        "number",
        "punctuation",
        "bytes",
    )
    for row in others:
        for index, token in zip(row["source_ids"], row["source_tokens"], strict=True):
            raw = tokenizer.convert_ids_to_tokens(index)
            assert token in (tokenizer.convert_tokens_to_string([raw]), raw)


@pytest.mark.parametrize("method", ["ridge", "random", "calibrate"])
def test_rows_that_are_no_combination(world, tmp_path: Path, method: str) -> None:
    options = {"text": world.train_pack, "tokens": 256, "window": 32} if method == "calibrate" else {}
    rows, _ = saved(world.source, world.helper, tmp_path / "out", method, **options)
    kinds = {row["made"] for row in rows}
    assert kinds == {"special", "copied", method}
    for row in rows:
        listed = [row[name] for name in ("source_ids", "source_tokens", "weights")]
        assert listed == [None] * 3 if row["made"] == method else len(listed[0]) == 1


def test_auto_names_the_method_it_chose(world, tmp_path: Path) -> None:
    rows, _ = saved(world.source, world.helper, tmp_path / "out", "auto", candidates=["fvt"])
    assert {row["made"] for row in rows} == {"special", "copied", "fvt"}


def test_a_vocabulary_of_its_own(world, tmp_path: Path) -> None:
    """Nothing is made: every row is the source's own; rows beyond the tokens are not listed."""
    rows, _ = saved(world.untied, world.untied, tmp_path / "out", "clp")
    assert all(row["source_ids"] == row["head_source_ids"] == [row["id"]] for row in rows)
    assert {row["made"] for row in rows} == {"special", "copied"}


@pytest.fixture
def gappy(world, tmp_path: Path) -> tuple[Path, int]:
    """The helper with an id that no token has, and that id."""
    folder = tmp_path / "gappy"
    shutil.copytree(world.helper, folder)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    model = tokenizer["model"]
    used = {part for merge in model["merges"] for part in merge}
    leaves = [token for token in model["vocab"] if token not in used and len(token) > 2 and token != "<|endoftext|>"]
    lost = max((token for token in leaves if model["vocab"][token] < 339), key=model["vocab"].get)
    model["merges"] = [merge for merge in model["merges"] if "".join(merge) != lost]
    gap = model["vocab"].pop(lost)
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    return folder, gap


def test_an_id_without_a_token(world, gappy: tuple[Path, int], tmp_path: Path) -> None:
    folder, gap = gappy
    rows, made = saved(world.source, folder, tmp_path / "out", "clp-topk")
    assert len(rows) == len(made[INPUT]) == 340
    row = rows[gap]
    assert (row["id"], row["token"], row["text"], row["class"], row["made"]) == (gap, None, None, "unused", "unused")
    assert row["source_ids"] is row["source_tokens"] is row["weights"] is None
    assert row["norm"] == pytest.approx(float(made[INPUT][gap].norm()), rel=1e-5)
    assert [other["id"] for other in rows if other["made"] == "unused"] == [gap]


def test_norms_of_half_precision_rows(world, tmp_path: Path) -> None:
    shutil.copytree(world.source, tmp_path / "half")
    weights = {name: tensor.bfloat16() for name, tensor in stored(world.source).items()}
    save_file(weights, tmp_path / "half" / "model.safetensors", metadata={"format": "pt"})
    rows, made = saved(tmp_path / "half", world.helper, tmp_path / "out", "fvt")
    expected = made[INPUT].double().norm(dim=1)
    assert [row["norm"] for row in rows] == pytest.approx(expected.tolist(), rel=1e-5)


@pytest.mark.parametrize("source", ["source", "untied"])
def test_explain_tells_tokens_and_weights(world, source: str) -> None:
    result = clp_transfer.transfer(getattr(world, source), world.helper, "clp-topk", top_k=3)
    table, lines = result.provenance.to_pylist(), result.explain("straße").splitlines()
    spaced, bare = (result.tokenizer(word)["input_ids"] for word in (" straße", "straße"))
    assert (lines[0], lines[2]) == ("' straße' is 1 token", f"'straße' is {len(bare)} tokens")
    assert [int(line.split()[0]) for line in (lines[1], *lines[3:])] == spaced + bare
    row = table[spaced[0]]
    assert f"{row['id']}  ' straße'  clp-topk" in lines[1]
    for prefix in ("", "head_") if source == "untied" else ("",):
        for token, weight in zip(row[f"{prefix}source_tokens"], row[f"{prefix}weights"], strict=True):
            assert f"{token!r} {weight:+.3f}" in lines[1]
        assert f"(norm {row[f'{prefix}norm']:.3f})" in lines[1]
    assert ("head: " in lines[1]) == (source == "untied")
    assert "' in'  copied  ' in' +1.000 (norm" in result.explain("in")


def test_explain_of_rows_that_are_no_combination(world) -> None:
    told = clp_transfer.transfer(world.source, world.helper, "ridge").explain(" Straße")
    assert "ridge  no single source rows (norm" in told


def test_explain_from_a_folder(world, tmp_path: Path) -> None:
    result = clp_transfer.transfer(world.source, world.helper, "fvt")
    result.save(tmp_path / "out")
    table, tokenizer = read_provenance(tmp_path / "out"), AutoTokenizer.from_pretrained(tmp_path / "out")
    assert table.equals(result.provenance)
    assert explain(table, tokenizer, "grün") == result.explain("grün")
    with pytest.raises(UserError, match="explain= is empty"):
        explain(table, tokenizer, "  ")
    with pytest.raises(UserError, match=f"has no {NAME}"):
        read_provenance(world.source)
