"""A checkpoint with the shape of BLOOM-7.1B: our whole command against `cp -r` of the same files, and its memory."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import BloomConfig, GPT2Config, PretrainedConfig

from clp_transfer.bench.checkpoints import SHARD_BYTES, bytes_of, grown_tokenizer, workplace, write_model
from clp_transfer.bench.command import Finished, measure
from clp_transfer.bench.memory import MEGABYTE
from clp_transfer.bench.rows import Row, compare, interleaved
from clp_transfer.bench.transfer_command import LIMIT, ours

GIGABYTE = 1e9
# At most 1.4 times the time of cp.
SPEED_BAR = 1 / 1.4
MEMORY_LIMIT = 4_000.0
# Untouched files as hard links to the source's; by default they are copied.
LINKED = "transfer.links=auto"
# What a copy costs that is on the disk and whose every byte is hashed, as ours is; no more than the system's own tools.
FLOOR = "cp -r; sync; sha256sum"
FLOOR_COMMAND = 'cp -r "$1" "$2" && sync "$2"/* && sha256sum "$2"/* > /dev/null'
SPARE_BYTES = 2 * GIGABYTE


@dataclass(frozen=True)
class Size:
    """The source's tokens, rows (the rest is padding), width and layers; the helper's tokens and width."""

    tokens: int = 250_680
    rows: int = 250_880
    width: int = 4_096
    layers: int = 30
    heads: int = 32
    helper_tokens: int = 50_257
    helper_width: int = 1_600
    shard_bytes: int = SHARD_BYTES
    repeats: int = 3  # the disk is not as fast from one minute to the next

    def source(self) -> PretrainedConfig:
        """BLOOM, tied."""
        return BloomConfig(
            vocab_size=self.rows,
            hidden_size=self.width,
            n_layer=self.layers,
            n_head=self.heads,
            bos_token_id=0,
            eos_token_id=0,
            pad_token_id=0,
        )

    def helper(self) -> PretrainedConfig:
        """A GPT-2 as wide as the paper's helper; two layers, since no more than its table is read."""
        return GPT2Config(
            vocab_size=self.helper_tokens,
            n_embd=self.helper_width,
            n_layer=2,
            n_head=max(1, self.helper_width // 64),
            bos_token_id=0,
            eos_token_id=0,
            pad_token_id=0,
        )

    def __str__(self) -> str:
        table = f"table {self.rows:,} x {self.width:,}"
        shape = f"{table}, {self.layers} layers, {bytes_of(self.source()) / GIGABYTE:.3g} GB"
        return f"BLOOM of {shape}, helper {self.helper_tokens:,} x {self.helper_width:,}"


QUICK = Size(
    tokens=400,
    rows=416,
    width=32,
    layers=2,
    heads=2,
    helper_tokens=360,
    helper_width=16,
    shard_bytes=40_000,
    repeats=1,
)


def run(quick: bool) -> list[Row]:
    """Measure; skip where the disk has no room."""
    size = QUICK if quick else Size()
    place = workplace(quick)
    needed = 2 * bytes_of(size.source()) + bytes_of(size.helper(), torch.float32) + (0 if quick else SPARE_BYTES)
    free = shutil.disk_usage(place).free
    if free < needed:
        note = (
            f"skipped: {place} has {free / GIGABYTE:.3g} GB free, and the source with one copy "
            f"needs {needed / GIGABYTE:.3g} GB"
        )
        return _rows(size, _Times(), None, note)
    with tempfile.TemporaryDirectory(dir=place) as folder:
        return _measured(size, Path(folder))


def _measured(size: Size, root: Path) -> list[Row]:
    helper = write_model(
        root / "helper",
        size.helper(),
        grown_tokenizer(size.helper_tokens, seed=2),
        seed=2,
        dtype=torch.float32,
    )
    source = write_model(
        root / "source",
        size.source(),
        grown_tokenizer(size.tokens, seed=1),
        seed=1,
        shard_bytes=size.shard_bytes,
    )
    out = root / "out"
    peaks: list[int] = []

    def copy() -> float:
        _start_anew(out, source, helper)
        return measure(["cp", "-r", source, out]).seconds

    def floor() -> float:
        _start_anew(out, source, helper)
        return measure(["sh", "-c", FLOOR_COMMAND, "sh", source, out]).seconds

    def transfer(*options: str) -> float:
        _start_anew(out, source, helper)
        done: Finished = ours(source, helper, out, *options)
        peaks.append(done.peak_bytes)
        return done.seconds

    calls = [copy, floor, transfer, lambda: transfer(LINKED)]
    copied, least, taken, linked = interleaved(calls, size.repeats)
    note = "all begin with nothing of the files in memory; cp does not wait for the disk at its end, ours and sync do"
    return _rows(size, _Times(taken, linked, copied, least), max(peaks) / MEGABYTE, note)


def _start_anew(out: Path, *inputs: Path) -> None:
    """Take the last result away, let the disk come to rest, drop the inputs from the system's cache (Linux)."""
    shutil.rmtree(out, ignore_errors=True)
    os.sync()
    for path in (file for folder in inputs for file in folder.iterdir()):
        with suppress(AttributeError, OSError):
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)


@dataclass(frozen=True)
class _Times:
    """Seconds of our command, of ours with links, of `cp -r`, and of the floor; None where nothing was measured."""

    taken: float | None = None
    linked: float | None = None
    copied: float | None = None
    floor: float | None = None


def _rows(size: Size, times: _Times, peak: float | None, note: str) -> list[Row]:
    name = f"clp.py, {size}, whole command"
    return [
        compare(name, "s", times.taken, times.copied, "cp -r", bar=SPEED_BAR, note=note),
        compare(name, "s", times.taken, times.floor, FLOOR, note=note),
        compare(f"{name}, {LINKED}", "s", times.linked, times.copied, "cp -r", bar=SPEED_BAR, note=note),
        compare(f"peak memory, {name}", "MB", peak, MEMORY_LIMIT, LIMIT, bar=1.0, note=note),
    ]
