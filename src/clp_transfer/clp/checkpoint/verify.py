"""What was written, read back by fresh readers and compared with what should be there."""

from __future__ import annotations

from collections.abc import Set
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from clp_transfer.clp.checkpoint.entry import Entry
from clp_transfer.clp.checkpoint.layout import Layout, read_config
from clp_transfer.clp.checkpoint.rewrite import resized
from clp_transfer.clp.checkpoint.tokenizer import load_tokenizer
from clp_transfer.clp.checkpoint.weights import Weights, as_bytes, read_into, torch_dtype
from clp_transfer.errors import UserError

SAMPLE = 4096
BLOCK = 4 << 20


def verify(
    out: Path,
    source: Weights,
    layout: Layout,
    replaced: dict[str, Tensor],
    trust_remote_code: bool = False,
    tokenizer: Any = None,
) -> None:
    """Re-open a written model; raises UserError where it is not what was asked for.

    Every tensor of the source is there in its dtype and shape, also for safetensors' own reader; the replaced ones
    hold exactly what was given, after conversion; the others have the source's first and last 4 KB. The config's
    vocabulary and the tokenizer's ids fit the tables; `tokenizer` is what the written files are known to load as (None:
    it is loaded here).
    """
    written = Weights(out)
    dropped = {layout.tied_copy} if layout.input in replaced else set()
    wanted = {name: resized(e, replaced) for name, e in source.entries.items() if name not in dropped}
    _same_names(out, wanted.keys(), written.entries.keys())
    for name, entry in wanted.items():
        found = written.entries[name]
        if (found.dtype, found.shape) != (entry.dtype, entry.shape):
            raise _failed(out, f"{name} is {found.dtype} {found.shape}, not {entry.dtype} {entry.shape}")
        if name in replaced:
            _same_table(written, found, replaced[name])
        elif _sample(source, source.entries[name]) != _sample(written, found):
            raise _failed(out, f"{name} differs from the source's")
    _official_reader(written)
    rows = written.entries[layout.input].shape[0]
    _same_vocabulary(out, rows, load_tokenizer(out, trust_remote_code) if tokenizer is None else tokenizer)
    source.close()


def _failed(out: Path, what: str) -> UserError:
    return UserError(f"{out} does not read back as it was made: {what}", "the disk may be failing; run it again")


def _same_names(out: Path, wanted: Set[str], found: Set[str]) -> None:
    """Raise UserError where tensors are missing or too many."""
    if wanted != found:
        raise _failed(out, f"tensors {sorted(wanted ^ found)[:5]} are on one side only")


def _same_table(written: Weights, entry: Entry, table: Tensor) -> None:
    """Compare a new table with what was given, in blocks; -0.0 and 0.0 count as equal."""
    step = max(1, BLOCK * entry.shape[0] // max(1, entry.nbytes))
    for first in range(0, entry.shape[0], step):
        last = min(first + step, entry.shape[0])
        given = table[first:last].detach().to("cpu", torch_dtype(entry))
        if not torch.equal(given, written.read_rows(entry.name, first, last)):
            raise _failed(entry.file, f"rows {first} to {last} of {entry.name} are not the ones that were made")


def _sample(weights: Weights, entry: Entry) -> bytes:
    """A tensor's first and last bytes."""
    size = min(SAMPLE, entry.nbytes)
    if entry.start is None:
        data = as_bytes(weights.read(entry.name)).tobytes()
        return data[:size] + data[len(data) - size :]
    both = bytearray(2 * size)
    read_into(entry.file, entry.start, memoryview(both)[:size])
    read_into(entry.file, entry.start + entry.nbytes - size, memoryview(both)[size:])
    return bytes(both)


def _official_reader(written: Weights) -> None:
    """Open every file with safetensors itself, which checks headers more strictly than we need to."""
    from safetensors import SafetensorError, safe_open

    for name, contents in written.contents.items():
        try:
            with safe_open(written.folder / name, framework="pt") as file:
                seen = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
        except SafetensorError as error:
            raise _failed(written.folder / name, str(error)) from error
        if seen != {key: entry.shape for key, entry in contents.entries.items()}:
            raise _failed(written.folder / name, "safetensors sees other tensors in it")


def _same_vocabulary(out: Path, rows: int, tokenizer: Any) -> None:
    """Compare the tables' rows with config.json and with the tokenizer's ids."""
    config = read_config(out)
    levels = [config, *(value for value in config.values() if isinstance(value, dict))]
    sizes = {level["vocab_size"] for level in levels if "vocab_size" in level}
    if sizes and rows not in sizes:
        raise _failed(out, f"config.json says vocab_size {sorted(sizes)}, the tables have {rows:,} rows")
    highest = max(tokenizer.get_vocab().values(), default=-1)
    if highest >= rows:
        raise _failed(out, f"the tokenizer has ids up to {highest:,}, the tables {rows:,} rows")
