"""An opened checkpoint folder: which file holds which tensor, and its bytes when asked for."""

from __future__ import annotations

import errno
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from clp_transfer.bulk import Reader
from clp_transfer.clp.checkpoint import pickled
from clp_transfer.clp.checkpoint.entry import DTYPES, Contents, Entry, damaged, read_header
from clp_transfer.errors import UserError
from clp_transfer.files import read_json

SAFETENSORS = "model.safetensors"
PICKLED = "pytorch_model.bin"
INDEX = ".index.json"
# In the order in which transformers looks for them.
FORMATS = (SAFETENSORS, SAFETENSORS + INDEX, PICKLED, PICKLED + INDEX)


class Weights:
    """The tensors of a model folder, in one file or sharded, safetensors or pickled.

    Opening it reads headers only; raises UserError for a folder without weights, a missing or damaged file, and an
    index that does not fit its files.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        name = next((n for n in FORMATS if (folder / n).is_file()), None)
        if name is None:
            raise UserError(
                f"{folder} has no weights; it holds {listing(folder)}",
                f"give a folder with {SAFETENSORS} or {PICKLED}, or their shards with {SAFETENSORS}{INDEX}",
            )
        self.main = folder / name
        self.pickled = name.startswith(PICKLED)
        weight_map = self._weight_map() if self.sharded else None
        files = sorted(set(weight_map.values())) if weight_map else [name]
        self._check_shards(files)
        self.contents = {file: self._read_contents(folder / file) for file in files}
        self.entries = self._entries(weight_map or {})
        self._loaded: tuple[Path, dict[str, Tensor]] | None = None

    @property
    def sharded(self) -> bool:
        """Whether an index lists several files."""
        return self.main.name.endswith(INDEX)

    @cached_property
    def index(self) -> dict[str, object]:
        """The index file of a sharded checkpoint."""
        found = read_json(self.main)
        if not isinstance(found, dict) or not isinstance(found.get("weight_map"), dict):
            raise damaged(self.main, "it has no weight_map")
        return found

    def _weight_map(self) -> dict[str, str]:
        """Which file holds each tensor, by the index; every file must lie in the folder itself."""
        found = self.index["weight_map"]
        assert isinstance(found, dict)
        for tensor, file in found.items():
            if not isinstance(file, str) or Path(file).name != file:
                raise damaged(self.main, f"it places {tensor} in {file!r}, which is no file name")
        if not found:
            raise damaged(self.main, "its weight_map is empty")
        return found

    def _check_shards(self, files: list[str]) -> None:
        """Raise UserError naming the shards that are not there."""
        missing = [file for file in files if not (self.folder / file).is_file()]
        if missing:
            raise UserError(
                f"{self.folder} lacks {len(missing)} of {len(files)} weight files: {', '.join(missing[:5])}"
                + (" …" if len(missing) > 5 else ""),
                f"fetch the checkpoint again; {self.main.name} lists them",
            )

    def _read_contents(self, file: Path) -> Contents:
        return pickled.read_contents(file) if self.pickled else read_header(file)

    def _entries(self, weight_map: dict[str, str]) -> dict[str, Entry]:
        """Every tensor's entry; where two files hold a tensor of one name, the index decides."""
        entries: dict[str, Entry] = {}
        for contents in self.contents.values():
            entries |= contents.entries
        for tensor, file in weight_map.items():
            if tensor not in self.contents[file].entries:
                elsewhere = f"; {entries[tensor].file.name} does" if tensor in entries else ""
                raise damaged(self.main, f"it places {tensor} in {file}, which does not hold it{elsewhere}")
            entries[tensor] = self.contents[file].entries[tensor]
        return entries

    def read(self, name: str) -> Tensor:
        """One whole tensor in its stored dtype; raises UserError where its dtype is none of torch's."""
        entry = self.entries[name]
        return self.read_rows(name, 0, entry.shape[0]) if entry.shape else self._scalar(entry)

    def read_rows(self, name: str, first: int, last: int) -> Tensor:
        """Rows first to last (exclusive) of a tensor along its first dimension, in its stored dtype.

        Reads exactly these rows from the file; nothing stays mapped or cached.
        """
        entry = self.entries[name]
        if entry.start is None:
            return self._load(entry)[first:last].contiguous()
        rows = torch.empty(last - first, *entry.shape[1:], dtype=torch_dtype(entry))
        if rows.numel():
            per_row = entry.nbytes // entry.shape[0]
            read_into(entry.file, entry.start + first * per_row, as_bytes(rows))
        return rows

    def _scalar(self, entry: Entry) -> Tensor:
        if entry.start is None:
            return self._load(entry)
        value = torch.empty(1, dtype=torch_dtype(entry))
        read_into(entry.file, entry.start, as_bytes(value))
        return value.reshape(())

    def _load(self, entry: Entry) -> Tensor:
        """A tensor that is no plain range of its file, read by torch; the last such file stays open."""
        if self._loaded is None or self._loaded[0] != entry.file:
            self._loaded = (entry.file, pickled.load(entry.file))
        return self._loaded[1][entry.name]

    def close(self) -> None:
        """Let go of what `read` kept of an old pickled file."""
        self._loaded = None


def torch_dtype(entry: Entry) -> torch.dtype:
    """The torch dtype of a stored tensor; raises UserError where torch has none."""
    if entry.dtype not in DTYPES:
        raise UserError(
            f"{entry.file}: {entry.name} is stored as {entry.dtype}, which torch cannot read",
            "take the checkpoint in bfloat16, float16 or float32, not a quantised one",
        )
    return DTYPES[entry.dtype]


def as_bytes(tensor: Tensor) -> memoryview:
    """A tensor's bytes, row-major; writing into them writes into the tensor if it is contiguous."""
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data


def read_into(file: Path, start: int, view: memoryview) -> None:
    """Fill `view` with a file's bytes from `start` on; raises UserError where the file ends early."""
    try:
        with Reader(file) as reader:
            reader.into(view, start)
    except EOFError as error:
        raise damaged(file, f"it ends {error.args[0]:,} bytes early") from error
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        raise damaged(file, "the disk cannot read it") from error


def listing(folder: Path, most: int = 12) -> str:
    """The names in a folder, for messages."""
    names = sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []
    return ", ".join(names[:most]) + (" …" if len(names) > most else "") if names else "nothing"
