"""The tensors of a `pytorch_model.bin`, found without running anything that is in it."""

from __future__ import annotations

import re
from math import prod
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from clp_transfer.clp.checkpoint.entry import LFS, NAMES, Contents, Entry, check_pointer, damaged
from clp_transfer.errors import UserError

ZIP = b"PK"


def read_contents(file: Path) -> Contents:
    """Where the tensors of a pickled file lie; none of their bytes is read.

    Loads onto the meta device with `weights_only`; torch notes there where in the file each storage begins. Two names
    may share bytes (a tied head); each is an entry of its own. Raises UserError as `load` does.
    """
    entries = {}
    for name, tensor in load(file, device="meta").items():
        if tensor.dtype not in NAMES or tensor.layout != torch.strided:
            raise UserError(
                f"{file}: {name} is stored as {tensor.dtype}, {tensor.layout}", "save the model as safetensors"
            )
        nbytes = prod(tensor.shape) * tensor.dtype.itemsize
        begin = getattr(tensor.untyped_storage(), "_checkpoint_offset", None)
        start = None
        if begin is not None and tensor.is_contiguous():
            start = begin + tensor.storage_offset() * tensor.dtype.itemsize
        entries[name] = Entry(name, file, NAMES[tensor.dtype], tuple(tensor.shape), start, nbytes)
    return Contents(entries)


def load(file: Path, device: str = "cpu") -> dict[str, Tensor]:
    """The tensors of a pickled file by name, mapped from the disk where its format allows.

    Raises UserError for a damaged file, and for one that could only be loaded by running code in it.
    """
    with file.open("rb") as stream:
        first = stream.read(len(LFS))
    check_pointer(file, first)
    zipped = first.startswith(ZIP)  # files from before torch 1.6 are not, and cannot be mapped
    try:
        state = torch.load(file, map_location=device, weights_only=True, mmap=zipped and device != "meta")
    except UnpicklingError as error:
        found = re.search(r"GLOBAL (\S+)", str(error))
        if found is None:
            raise damaged(file, "it cannot be unpickled") from error
        raise UserError(
            f"{file} can only be loaded by running code that is in it ({found[1]}), which is refused",
            "take a checkpoint in safetensors format",
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, IndexError, AttributeError) as error:
        reason = str(error).splitlines() or [type(error).__name__]
        raise damaged(file, f"torch cannot read it ({reason[0]}); it may be cut off") from error
    return _tensors(file, state)


def _tensors(file: Path, state: Any) -> dict[str, Tensor]:
    """The tensors among a loaded file's values; raises UserError where it is no dictionary of them."""
    tensors = {k: v for k, v in state.items() if isinstance(v, Tensor)} if isinstance(state, dict) else {}
    if not tensors:
        raise UserError(
            f"{file} holds no dictionary from names to tensors", "save the model's state_dict, or take safetensors"
        )
    return tensors
