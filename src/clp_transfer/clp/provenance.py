"""Where every row of the target came from: a Parquet table, one row per token, and its lines for a word."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import torch
from torch import Tensor

from clp_transfer.clp.models import Ingredients
from clp_transfer.clp.transfer import TransferRows
from clp_transfer.clp.vocabulary.match import class_of
from clp_transfer.errors import UserError

NAME = "provenance.parquet"
TOP = 5
# `made` of the source's own rows, and of ids without a token; every other row names its method.
COPIED, SPECIAL, UNUSED = "copied", "special", "unused"
Columns = dict[str, pa.Array]


def token_table(ingredients: Ingredients, rows: TransferRows, method: str) -> pa.Table:
    """One row per target id, in order.

    `id`, `token` (the vocabulary's string), `text` (what it spells, null for special tokens and cut characters),
    `class`, `made` (`copied`, `special`, the method, or `unused` for an id without a token), then for the input table
    `source_ids`, `source_tokens` and `weights` (the 5 largest, null where the rows are no combination) and `norm`;
    for an untied head the same with `head_` in front.
    """
    columns, shown = _tokens(ingredients, method), _shown(ingredients)
    for table, whole in (("input", rows.input), ("head", rows.head)):
        if whole is not None:
            columns |= _origin_columns(ingredients, rows, table, whole[: ingredients.overlap.size], shown)
    return pa.table(columns)


def _tokens(ingredients: Ingredients, method: str) -> Columns:
    target, overlap = ingredients.target, ingredients.overlap
    ids, keys = range(overlap.size), [target.keys.get(index) for index in range(overlap.size)]
    other = dict.fromkeys(overlap.special_ids, SPECIAL)
    return {
        "id": _numbers(np.arange(overlap.size, dtype=np.int32)),
        "token": _strings([target.tokens.get(index) for index in ids]),
        "text": _strings([key and _text(key.text) for key in keys]),
        "class": _strings([class_of(key) if key else other.get(i, UNUSED) for i, key in enumerate(keys)]),
        "made": _strings([_made(index, ingredients, method) for index in ids]),
    }


def _made(index: int, ingredients: Ingredients, method: str) -> str:
    overlap = ingredients.overlap
    if index in overlap.shared:
        return SPECIAL if index in overlap.special_ids else COPIED
    return method if index in ingredients.target.tokens else UNUSED


def _text(spelled: bytes) -> str | None:
    try:
        return spelled.decode()
    except UnicodeDecodeError:
        return None


def _shown(ingredients: Ingredients) -> pa.Array:
    """The source's tokens by id: as text where they are text, else as the vocabulary writes them."""
    source = ingredients.source.vocabulary
    texts = (_text(source.keys[index].text) if index in source.keys else None for index in range(source.size))
    return _strings([source.tokens.get(i, "") if text is None else text for i, text in enumerate(texts)])


def _origin_columns(
    ingredients: Ingredients, rows: TransferRows, table: str, whole: Tensor, shown: pa.Array
) -> Columns:
    """The sources, their weights and the norm of every row of one table."""
    overlap = ingredients.overlap
    ids, weights = np.full((len(whole), TOP), -1, dtype=np.int32), np.zeros((len(whole), TOP), dtype=np.float32)
    told = np.zeros(len(whole), dtype=bool)
    copied = np.fromiter(overlap.shared, dtype=np.int64)
    ids[copied, 0], weights[copied, 0] = np.fromiter(overlap.shared.values(), dtype=np.int32), 1.0
    told[copied] = True
    tell = rows.origins.get(table)
    if tell is not None and overlap.missing:
        origins, missing = tell(TOP), np.asarray(overlap.missing)
        ids[missing], weights[missing] = origins.ids.cpu().numpy(), origins.weights.float().cpu().numpy()
        told[missing] = True
    some = ids >= 0
    ends = _numbers(np.concatenate([[0], some.sum(axis=1).cumsum()]).astype(np.int32))
    untold = pa.Array.from_buffers(pa.bool_(), len(whole), [None, _bits(~told)])

    def listed(values: pa.Array) -> pa.Array:
        return pa.ListArray.from_arrays(ends, values, mask=untold)

    prefix = "" if table == "input" else f"{table}_"
    norms = torch.cat([block.float().norm(dim=1) for block in whole.split(8192)])
    return {
        f"{prefix}source_ids": listed(_numbers(ids[some])),
        f"{prefix}source_tokens": listed(shown.take(_numbers(ids[some]))),
        f"{prefix}weights": listed(_numbers(weights[some])),
        f"{prefix}norm": _numbers(norms.cpu().numpy()),
    }


# Arrow arrays from their buffers: `pa.array` imports pandas where there is one, which takes half a second.


def _numbers(values: Any) -> pa.Array:
    """An array over the same memory as a NumPy one."""
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [None, pa.py_buffer(values)])


def _strings(values: Sequence[str | None]) -> pa.Array:
    """An array of strings; None becomes null."""
    spelled = [(value or "").encode() for value in values]
    ends = np.concatenate([[0], np.cumsum([len(each) for each in spelled], dtype=np.int64)]).astype(np.int32)
    known = np.array([value is not None for value in values], dtype=bool)
    buffers = [None if known.all() else _bits(known), pa.py_buffer(ends), pa.py_buffer(b"".join(spelled))]
    return pa.Array.from_buffers(pa.string(), len(values), buffers)


def _bits(flags: Any) -> pa.Buffer:
    """Eight flags a byte, the first the lowest."""
    return pa.py_buffer(np.packbits(flags, bitorder="little"))


def write_provenance(table: pa.Table, folder: Path) -> None:
    """Write the table into a model folder."""
    parquet.write_table(table, folder / NAME, compression="zstd")


def read_provenance(folder: Path) -> pa.Table:
    """The table of a model folder; raises UserError where it has none."""
    if not (folder / NAME).is_file():
        raise UserError(f"{folder} has no {NAME}", "make the model with clp.py; a scratch model has none")
    return parquet.read_table(folder / NAME)


def explain(table: pa.Table, tokenizer: Any, text: str) -> str:
    """How the rows of a text's tokens were made, a line per token: as it begins a word, and as it stands.

    Raises UserError for an empty text.
    """
    if not text.strip():
        raise UserError("explain= is empty", "give a word or a text, e.g. explain=Straßenbahn")
    lines, seen = [], set()
    for written in (f" {text.strip()}", text):
        ids = tuple(tokenizer(written, add_special_tokens=False)["input_ids"])
        if ids not in seen:
            seen.add(ids)
            lines += [f"{written!r} is {len(ids)} token{'s' if len(ids) != 1 else ''}", *(_line(table, i) for i in ids)]
    return "\n".join(lines)


def _line(table: pa.Table, index: int) -> str:
    """One token: its string, how it was made, its sources with their weights."""
    row = table.slice(index, 1).to_pylist()[0]
    parts = []
    for prefix in ("", "head_"):
        if f"{prefix}norm" not in row:
            continue
        pairs = zip(row[f"{prefix}source_tokens"] or [], row[f"{prefix}weights"] or [], strict=True)
        sources = ", ".join(f"{token!r} {weight:+.3f}" for token, weight in pairs)
        named = "head: " if prefix else ""
        parts.append(f"{named}{sources or 'no single source rows'} (norm {row[f'{prefix}norm']:.3f})")
    shown = row["token"] if row["text"] is None else row["text"]
    return f"  {row['id']:>6}  {shown!r}  {row['made']}  " + "; ".join(parts)
