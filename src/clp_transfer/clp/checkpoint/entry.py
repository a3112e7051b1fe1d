"""Where one tensor lies in a checkpoint, and the safetensors header that says so."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import torch

from clp_transfer.errors import UserError

# The dtypes of safetensors that torch has too. A tensor of another dtype is copied as it is, never read.
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "U16": torch.uint16,
    "U32": torch.uint32,
    "U64": torch.uint64,
    "BOOL": torch.bool,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "C64": torch.complex64,
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
LIMIT = 100_000_000  # safetensors' own limit on a header's bytes
LFS = b"version https://git-lfs"


@dataclass(frozen=True)
class Entry:
    """One stored tensor: `nbytes` bytes of `file` from byte `start` on, row-major.

    `dtype` is spelled as safetensors does (`BF16`). `start` is None where the bytes are not one plain range of the
    file (old pickled files, transposed tensors); such a tensor is read by torch.
    """

    name: str
    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int | None
    nbytes: int

    @property
    def itemsize(self) -> float:
        """Bytes of one element; less than 1 for packed dtypes."""
        return self.nbytes / max(1, prod(self.shape))


@dataclass(frozen=True)
class Contents:
    """What one file holds; `metadata` is the free text of a safetensors header."""

    entries: dict[str, Entry]
    metadata: dict[str, str] = field(default_factory=dict)


def damaged(file: Path, why: str) -> UserError:
    """The error of a file that is not whole."""
    return UserError(f"{file} is damaged: {why}", "fetch or save the checkpoint again")


def check_pointer(file: Path, first: bytes) -> None:
    """Raise UserError where a file is only git-lfs's stand-in for the real one."""
    if first.startswith(LFS):
        raise UserError(
            f"{file} is not the file but a git-lfs pointer to it", "run `git lfs pull` in the folder it was cloned to"
        )


def read_header(file: Path) -> Contents:
    """Read a safetensors file's header; raises UserError where it is broken or promises more than the file has."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        first = stream.read(len(LFS))
        check_pointer(file, first)
        if size < 8:
            raise damaged(file, f"it has {size} bytes")
        length = struct.unpack("<Q", first[:8])[0]
        if length > min(LIMIT, size - 8):
            raise damaged(file, f"its header should have {length:,} bytes, the file has {size:,}")
        stream.seek(8)
        text = stream.read(length)
    try:
        header = json.loads(text)
        metadata = header.pop("__metadata__", None) or {}
        entries = {name: _entry(file, name, value, 8 + length) for name, value in header.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise damaged(file, f"its header is not that of a safetensors file ({error})") from error
    needed = max((e.start + e.nbytes for e in entries.values() if e.start is not None), default=8 + length)
    if needed > size:
        last = max(entries.values(), key=lambda e: e.start or 0)
        raise damaged(file, f"{last.name} and its other tensors need {needed:,} bytes, the file has {size:,}")
    return Contents(entries, metadata)


def _entry(file: Path, name: str, value: dict[str, Any], base: int) -> Entry:
    """One tensor's line of a header; raises ValueError where it contradicts itself."""
    first, last = value["data_offsets"]
    shape, dtype = tuple(value["shape"]), value["dtype"]
    known = DTYPES.get(dtype)
    if not 0 <= first <= last or (known is not None and prod(shape) * known.itemsize != last - first):
        raise ValueError(f"{name}: {last - first} bytes for {dtype} {list(shape)}")
    return Entry(name, file, dtype, shape, base + first, last - first)


def lay_out(entries: Iterable[Entry]) -> list[Entry]:
    """The order in which tensors follow each other: wide elements first, so that each begins at a whole element."""
    return sorted(entries, key=lambda e: (-e.itemsize, e.start or 0, e.name))


def make_header(entries: list[Entry], metadata: dict[str, str]) -> bytes:
    """The header of a file that holds these tensors in this order, padded to 8 bytes as safetensors pads it."""
    header: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    position = 0
    for e in entries:
        header[e.name] = {
            "dtype": e.dtype,
            "shape": list(e.shape),
            "data_offsets": [position, position + e.nbytes],
        }
        position += e.nbytes
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text
