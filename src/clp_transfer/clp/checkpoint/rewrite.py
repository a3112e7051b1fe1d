"""A checkpoint with new tables, streamed: files that hold none are placed whole, the others copied range by range."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from clp_transfer.bulk import Writer
from clp_transfer.clp.checkpoint.entry import Entry, lay_out, make_header
from clp_transfer.clp.checkpoint.layout import Layout
from clp_transfer.clp.checkpoint.ranges import check_space, explained, place, reading
from clp_transfer.clp.checkpoint.untouched import Untouched
from clp_transfer.clp.checkpoint.weights import INDEX, SAFETENSORS, Weights, as_bytes, torch_dtype
from clp_transfer.clp.job import LINKS
from clp_transfer.errors import UserError
from clp_transfer.files import write_json
from clp_transfer.hashes import remember_hash

BLOCK = 4 << 20  # bytes of a new table that are converted at once


def write(
    source: Weights,
    layout: Layout,
    replaced: dict[str, Tensor],
    out: Path,
    links: str = "never",
    untouched: Untouched | None = None,
) -> dict[str, int]:
    """Write the source's tensors to a folder as safetensors, with `replaced` in place of those of the same names.

    A replaced tensor ([rows, …], any float dtype, any device) is stored in the source's dtype. A tied copy of a
    replaced input table is dropped. With nothing to replace, safetensors files stay byte for byte what they are.
    `links`: whether untouched files may be hard links to the source's (`auto`, see `ranges.place`) or not (`never`);
    a file system that clones does so in either case. `untouched`: the source's files without a table, if they are being
    placed already. Returns the bytes that were cloned, linked, copied (whole files) and rewritten. Raises UserError for
    a full disk and for rows that the stored dtype cannot hold, ValueError for tables that do not fit the layout.
    """
    if links not in LINKS:
        raise ValueError(f"links={links!r}, not one of {LINKS}")
    if out.resolve() == source.folder.resolve():
        raise UserError(f"{out} is the source itself", "write to another folder")
    dropped = {layout.tied_copy} if layout.input in replaced else set()
    counts = dict.fromkeys(("cloned", "linked", "copied", "rewritten"), 0)
    weight_map: dict[str, Entry] = {}
    files = _plan(source, dropped)
    with explained(out), untouched or Untouched(source, layout, out, links) as early:
        _check(source, layout, replaced)
        rest = {file: kept for file, kept in files.items() if file not in early.files}
        check_space(out, early.outstanding() + sum(e.nbytes for file, e in _written(source, rest, replaced, links)))
        for file, (name, entries) in files.items():
            if file in early.files:
                continue
            made = {e.name: resized(e, replaced) for e in entries}
            if source.pickled or set(source.contents[file].entries) != made.keys() or made.keys() & replaced.keys():
                metadata = {"format": "pt"} | source.contents[file].metadata
                _rewrite(source, list(made.values()), metadata, replaced, out / name)
                counts["rewritten"] += (out / name).stat().st_size
            else:
                counts[place(source.folder / file, out / name, links)] += (out / name).stat().st_size
            weight_map |= {e.name: replace(e, file=out / name) for e in made.values()}
        for file, (how, size) in early.sizes().items():
            counts[how] += size
            weight_map |= {e.name: replace(e, file=out / file) for e in files[file][1]}
        _write_index(source, weight_map, out, changed=bool(replaced) or source.pickled)
    source.close()
    return counts


def resized(entry: Entry, replaced: dict[str, Tensor]) -> Entry:
    """What a tensor of the source becomes: the same dtype, with the new number of rows where it is replaced."""
    if entry.name not in replaced:
        return entry
    shape = tuple(replaced[entry.name].shape)
    return replace(entry, shape=shape, nbytes=prod(shape) * torch_dtype(entry).itemsize)


def _check(source: Weights, layout: Layout, replaced: dict[str, Tensor]) -> None:
    """Raise ValueError where the new tables would not make a model together."""
    tables = [name for name in (layout.input, layout.head, layout.head_bias) if name]
    rows = len(replaced[layout.input]) if layout.input in replaced else layout.rows
    for name, tensor in replaced.items():
        if name not in tables:
            raise ValueError(f"{name} is not one of the tables {tables}")
        if tuple(tensor.shape[1:]) != source.entries[name].shape[1:] or len(tensor) != rows:
            raise ValueError(
                f"{name}: {list(tensor.shape)} in place of {list(source.entries[name].shape)}, {rows} rows"
            )
    missing = [name for name in tables if name not in replaced]
    if rows != layout.rows and missing:
        raise ValueError(f"{missing} have {layout.rows} rows, the new tables {rows}")


def _plan(source: Weights, dropped: set[str | None]) -> dict[str, tuple[str, list[Entry]]]:
    """For each source file its new name and its tensors in their new order; a file left empty is left out."""
    kept: dict[str, list[Entry]] = {}
    for file, contents in source.contents.items():
        # Where two files hold a tensor of the same name, the other one's is not read by anybody.
        entries = [e for e in contents.entries.values() if e.name not in dropped and source.entries[e.name] == e]
        if entries:
            kept[file] = lay_out(entries)
    if not source.pickled:
        return {file: (file, entries) for file, entries in kept.items()}
    stem = SAFETENSORS.partition(".")[0]
    names = [f"{stem}-{i + 1:05d}-of-{len(kept):05d}.safetensors" for i in range(len(kept))]
    names = names if source.sharded else [SAFETENSORS]
    return {file: (name, entries) for (file, entries), name in zip(kept.items(), names, strict=True)}


def _written(
    source: Weights, files: dict[str, tuple[str, list[Entry]]], replaced: dict[str, Tensor], links: str
) -> list[tuple[str, Entry]]:
    """The tensors that need room on the disk, at most: hard links need none, clones are not counted on."""
    untouched = [
        file
        for file, (_, entries) in files.items()
        if links == "auto" and not source.pickled and not any(e.name in replaced for e in entries)
    ]
    return [
        (file, resized(e, replaced)) for file, (_, entries) in files.items() if file not in untouched for e in entries
    ]


def _rewrite(
    source: Weights, entries: list[Entry], metadata: dict[str, str], replaced: dict[str, Tensor], path: Path
) -> None:
    """Write one safetensors file: a new header, then the tensors in order."""
    path.unlink(missing_ok=True)  # see ranges.place
    header = make_header(entries, metadata)
    size = len(header) + sum(e.nbytes for e in entries)
    with reading(source.entries[entries[0].name].file) as reader, Writer(path, size) as writer:
        writer.write(memoryview(header))
        for e in entries:
            if e.name in replaced:
                _write_table(writer, e, replaced[e.name])
            elif e.start is None:
                writer.write(as_bytes(source.read(e.name)))
            else:
                writer.copy(reader, e.start, e.nbytes)
    remember_hash(path, writer.sha256)


def _write_table(writer: Writer, entry: Entry, table: Tensor) -> None:
    """Append a new table in its stored dtype; raises UserError where that cannot hold it."""
    dtype = torch_dtype(entry)
    step = max(1, BLOCK // max(1, prod(entry.shape[1:]) * dtype.itemsize))
    for first in range(0, len(table), step):
        block = table[first : first + step].detach().to("cpu", dtype)
        broken = ~torch.isfinite(block.reshape(len(block), -1)).all(1)
        if broken.any():
            rows = (first + broken.nonzero().flatten()).tolist()
            raise UserError(
                f"{entry.name}: {len(rows)} new rows are NaN or too large for {dtype} (the first: {rows[:5]})",
                "choose another method, or another helper",
            )
        writer.write(as_bytes(block))


def _write_index(source: Weights, entries: dict[str, Entry], out: Path, changed: bool) -> None:
    """Write the index of a sharded checkpoint; one whose tensors are all the same keeps its bytes."""
    if not source.sharded:
        return
    path = out / (SAFETENSORS + INDEX)
    if not changed:
        place(source.main, path, "never")
        return
    metadata = source.index.get("metadata")
    metadata = dict(metadata) if isinstance(metadata, dict) else {}
    metadata["total_size"] = sum(e.nbytes for e in entries.values())
    if "total_parameters" in metadata:
        metadata["total_parameters"] = sum(prod(e.shape) for e in entries.values())
    weight_map = {name: entries[name].file.name for name in sorted(entries)}
    write_json(path, {"metadata": metadata, "weight_map": weight_map})
