"""Which stored tensors have a row per token: the input table, the head and its bias, and nothing else."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clp_transfer.clp.checkpoint import skeleton
from clp_transfer.clp.checkpoint.entry import Entry
from clp_transfer.clp.checkpoint.weights import Weights, listing
from clp_transfer.errors import UserError
from clp_transfer.files import read_json

log = logging.getLogger(__name__)

# The last part of the module's name, as the families of the last years spell it.
INPUTS = (
    "embed_tokens",
    "wte",
    "word_embeddings",
    "embed_in",
    "tok_embeddings",
    "tte",
    "word_embedding",
    "embeddings",
    "embedding",
    "embed",
)
HEADS = ("lm_head", "embed_out", "output", "output_layer", "unembed", "head")


@dataclass(frozen=True)
class Layout:
    """The stored names of a checkpoint's tables.

    `input`: the input table. `head`: the head's own table; None where it is tied to the input, or absent.
    `head_bias`: the head's bias, one number per token. `tied_copy`: a stored head that is only a copy of the input
    table; whoever writes new tables drops it, the loader ties it again. `config`: config.json as it is. `rows`: the
    rows of the input table, padding included.
    """

    input: str
    head: str | None
    head_bias: str | None
    tied_copy: str | None
    config: dict[str, Any]
    rows: int


def find_layout(folder: Path, weights: Weights, trust_remote_code: bool = False) -> Layout:
    """Find a checkpoint's tables; raises UserError where there is no input table, or a third table by token.

    Where the shapes settle it (the vocabulary's size is a dimension of the tables alone), nothing is built. Else the
    model is built without memory, twice, with two vocabulary sizes: what changes its shape are the tables. A family
    that transformers does not know, or cannot build, is searched by the tables' usual names.
    """
    raw = read_config(folder)
    if (plain := skeleton.plain_config(raw)) and (found := _by_shape(weights, raw, plain)):
        return found
    config = skeleton.load_config(folder, trust_remote_code)
    if config is not None:
        text = config.get_text_config()
        if text is config and (found := _by_shape(weights, raw, config)):
            return found
        if built := skeleton.build(config, trust_remote_code):
            return _by_skeleton(weights, raw, built)
    return _by_name(weights, raw)


def read_config(folder: Path) -> dict[str, Any]:
    """config.json as it is; raises UserError where there is none."""
    if not (folder / "config.json").is_file():
        raise UserError(
            f"{folder} is not a model folder: it has no config.json; it holds {listing(folder)}",
            "give a folder that save_pretrained wrote (config.json, weights, tokenizer)",
        )
    found = read_json(folder / "config.json")
    if not isinstance(found, dict):
        raise UserError(f"{folder / 'config.json'} holds no settings", "fetch or save the model again")
    return found


def _by_shape(weights: Weights, raw: dict[str, Any], config: Any) -> Layout | None:
    """The layout, if the file's shapes and names leave no doubt about it."""
    size = config.vocab_size
    sizes = {value for name, value in vars(config).items() if name.startswith("vocab_size")} | {size}
    tables = {name for name, entry in weights.entries.items() if sizes & set(entry.shape)}
    inputs, heads = _named(weights, INPUTS, size, exact=True), _named(weights, HEADS, size, exact=True)
    if len(inputs) != 1 or len(heads) > 1:
        return None
    head = heads[0] if heads else None
    bias = _bias(weights, head, size)
    tied = bool(getattr(config, "tie_word_embeddings", False))
    if not tables <= {inputs[0], head, bias} or (head is None and not tied):
        return None
    return _assemble(weights, raw, inputs[0], head, bias, tied)


def _by_skeleton(weights: Weights, raw: dict[str, Any], built: skeleton.Skeleton) -> Layout:
    """The layout of a model that was built; raises UserError for a table by token that has no place in it."""
    known = {built.input, built.head, built.head_bias}
    extra = sorted(built.by_token - known)
    if extra:
        raise UserError(
            f"{weights.folder}: {raw.get('model_type')} keeps more tables by token: {', '.join(extra[:3])}",
            "such a family cannot be given another vocabulary by this program; take another source",
        )
    head = _stored(weights, built.head, HEADS, built.rows) if built.head else None
    found = _stored(weights, built.input, INPUTS, built.rows)
    if found is None and built.tied:  # some checkpoints keep the head's name for the one table
        found, head = head, None
    if found is None:
        raise _no_table(weights, f"no tensor is called {built.input}, nor anything like it")
    if head is None and not built.tied:
        log.warning("%s: the head is not tied to the input table, but none is stored", weights.folder)
    bias = _stored(weights, built.head_bias, (), built.rows) if built.head_bias else None
    rows = weights.entries[found].shape[0]
    if rows != built.rows:
        raise UserError(
            f"{weights.entries[found].file}: {found} has {rows:,} rows, but config.json makes it {built.rows:,}",
            "correct vocab_size in config.json, or fetch the checkpoint again",
        )
    return _assemble(weights, raw, found, head, bias, built.tied)


def _by_name(weights: Weights, raw: dict[str, Any]) -> Layout:
    """The layout of an unknown family, by the usual names; raises UserError listing what there is instead."""
    text = raw.get("text_config") if isinstance(raw.get("text_config"), dict) else raw
    size = (text or {}).get("vocab_size", raw.get("vocab_size", 1))
    inputs = _named(weights, INPUTS, size)
    if not inputs:
        raise _no_table(weights, f"the family {raw.get('model_type')!r} is unknown")
    rows = weights.entries[inputs[0]].shape[0]
    heads = _named(weights, HEADS, rows, exact=True)
    head = heads[0] if heads else None
    # transformers ties where the config does not say otherwise; a head that differs is stored for its own sake.
    tied = head is None or bool(raw.get("tie_word_embeddings", True))
    log.warning("%s: unknown family, took %s as input table and %s as head", weights.folder, inputs[0], head or "it")
    return _assemble(weights, raw, inputs[0], head, _bias(weights, head, rows), tied)


def _assemble(
    weights: Weights, raw: dict[str, Any], found: str, head: str | None, bias: str | None, tied: bool
) -> Layout:
    """The layout; a stored head of a tied model is a copy only if its bytes are the input's (so loaders decide)."""
    copy = None
    if tied and head is not None and _same(weights, found, head):
        copy, head = head, None
    return Layout(found, head, bias, copy, raw, weights.entries[found].shape[0])


def _named(weights: Weights, names: tuple[str, ...], rows: int, exact: bool = False) -> list[str]:
    """Stored tables of one of these names with so many rows (or more), the likeliest name first."""
    found = []
    for rank, name in enumerate(names):
        for stored, entry in weights.entries.items():
            module, _, kind = stored.rpartition(".")
            if kind == "weight" and module.rpartition(".")[2] == name and _is_table(entry, rows, exact):
                found.append((rank, stored.count("."), stored))
    return [stored for *_, stored in sorted(found)]


def _is_table(entry: Entry, rows: int, exact: bool) -> bool:
    return len(entry.shape) == 2 and (entry.shape[0] == rows or (not exact and entry.shape[0] > rows))


def _bias(weights: Weights, head: str | None, rows: int) -> str | None:
    """The stored bias beside a stored head."""
    name = f"{head.removesuffix('.weight')}.bias" if head else ""
    return name if name in weights.entries and weights.entries[name].shape == (rows,) else None


def _stored(weights: Weights, name: str, usual: tuple[str, ...], rows: int) -> str | None:
    """What the file calls a model's parameter: some leave out the base model's name, some use an older one."""
    for spelling in (name, name.partition(".")[2]):
        if spelling in weights.entries:
            return spelling
    found = _named(weights, usual, rows, exact=True)
    return found[0] if len(found) == 1 else None


def _same(weights: Weights, one: str, other: str) -> bool:
    """Whether two stored tables are equal, compared in blocks."""
    first, second = weights.entries[one], weights.entries[other]
    if first.start is not None and (first.file, first.start) == (second.file, second.start):
        return True
    if first.shape != second.shape or first.dtype != second.dtype:
        return False
    step = max(1, (16 << 20) * first.shape[0] // max(1, first.nbytes))
    return all(
        bool(weights.read_rows(one, begin, end).equal(weights.read_rows(other, begin, end)))
        for begin in range(0, first.shape[0], step)
        for end in [min(begin + step, first.shape[0])]
    )


def _no_table(weights: Weights, what: str) -> UserError:
    """The error of a checkpoint without an input table, listing the tables that it has."""
    tables = [f"{e.name} {list(e.shape)}" for e in weights.entries.values() if len(e.shape) == 2]
    tables.sort(key=lambda line: -int(line.rpartition("[")[2].split(",")[0]))
    seen = ", ".join(tables[:8]) + (f" and {len(tables) - 8} more" if len(tables) > 8 else "")
    return UserError(
        f"{weights.folder}: no input embedding found: {what}; its 2-D tensors are {seen or 'none'}",
        f"take a decoder whose input table is called like one of {', '.join(INPUTS[:6])}",
    )
