"""Stored files as plain streams of bytes: decompressed on the way, with their place, and told when they are broken."""

from __future__ import annotations

import gzip
import io
import logging
import lzma
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NoReturn, cast

import pyarrow as pa

from clp_transfer.errors import UserError

log = logging.getLogger(__name__)

# Lines are found in a buffer of this size; a decompressor is asked for at most a piece at a time, which bounds both
# the memory and what a broken file loses.
BUFFER = 1 << 20
PIECE = 1 << 16

Read = Callable[[int], bytes]


def split_name(name: str) -> tuple[str, list[str]]:
    """A file's bare name, without folders and compression, and the layers around it, the outermost first.

    `https://host/a/b.jsonl.gz?x=1` gives `b.jsonl` and `[".gz"]`; `c.tgz` gives `c` and `[".gz", ".tar"]`. A URL may
    say the name in its fragment: `https://host/get?id=7#b.jsonl.gz`.
    """
    if "://" in name:
        address, _, fragment = name.partition("#")
        name = fragment if PurePosixPath(fragment).suffix else address.partition("?")[0]
    bare, layers = PurePosixPath(name.replace("\\", "/").rpartition("!")[2]).name, list[str]()
    while (suffix := PurePosixPath(bare).suffix.lower()) in LAYERS:
        bare, layers = bare[: -len(suffix)], layers + LAYERS[suffix]
    return bare, layers


@dataclass(frozen=True)
class _Stored:
    """The open file that a stream's bytes come from, and which part of it they are."""

    path: Path
    file: io.FileIO
    start: int
    size: int


@dataclass
class _Watch:
    """Decides what a broken file means: an end of everything (`stop`), or of this file (`keep`)."""

    name: str
    mode: str
    remedy: str
    broken: bool = False

    def fail(self, error: object, place: str) -> None:
        if self.mode == "stop":
            problem = f"{self.name} is broken {place}: {error}"
            raise UserError(problem, f"{self.remedy}, or set clean.broken=keep to use what comes before")
        if not self.broken:
            log.warning("%s is broken %s: %s; what comes before is kept", self.name, place, error)
        self.broken = True


class _Decompressed(io.RawIOBase):
    """What a layer gives, a piece at a time. Where it breaks, it ends."""

    def __init__(self, read: Read, watch: _Watch) -> None:
        self._read_some, self._watch = read, watch
        self._given, self._ended = 0, False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:  # type: ignore[no-untyped-def]  # any writable buffer
        if self._ended:
            return 0
        try:
            data = self._read_some(min(len(buffer), PIECE))
        except (EOFError, OSError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, tarfile.TarError) as error:
            if getattr(error, "errno", None) is not None:  # the disk's trouble, not the file's
                raise
            self._ended = True
            self._watch.fail(error, f"after {self._given:,} decompressed bytes")
            return 0
        buffer[: len(data)] = data
        self._given += len(data)
        return len(data)


class Stream(io.BufferedReader):
    """A stored file's bytes, decompressed; reads as any binary file does.

    `path`: where it lies. `size`: its stored bytes. `stem`: its bare name without an ending in letters.
    """

    def __init__(self, raw: io.RawIOBase, stored: _Stored, watch: _Watch, stem: str = "") -> None:
        super().__init__(raw, BUFFER)
        self.path, self.size, self.stem = stored.path, stored.size, stem
        self._stored, self._watch, self._place = stored, watch, 0

    @property
    def name(self) -> str:  # type: ignore[override]  # the base's is the raw file's
        """What messages call the file."""
        return self._watch.name

    @property
    def broken(self) -> bool:
        """Whether the file has turned out to be broken (only with `broken="keep"`, which ends it there)."""
        return self._watch.broken

    def position(self) -> int:
        """Stored (compressed) bytes consumed so far; never less than before, `size` at the end."""
        if not self._stored.file.closed:
            self.advance(self._stored.file.tell() - self._stored.start)
        return self._place

    def advance(self, position: int) -> None:
        """For readers that read `path` themselves: say how far they are, in stored bytes."""
        self._place = max(self._place, min(position, self.size))

    def fail(self, error: object, place: str) -> None:
        """Report that the file is broken: raises UserError, or marks the stream `broken`, as it was opened to do."""
        self._watch.fail(error, place)


@contextmanager
def open_stream(
    path: Path, member: str | None = None, *, broken: str = "stop", name: str | None = None
) -> Iterator[Stream]:
    """Open a file, or a member of a wheel, for reading; `.gz`, `.xz`, `.zst` and `.tar` are undone by its name.

    A `.tar` gives the contents of its files in their order, a blank line between two. `name` stands for the path where
    that does not tell what the file is, such as in a cache. Raises UserError for a file that is not there, and from
    within the block as the bytes are read where it is broken or ends in its middle: with `broken="keep"` it then just
    ends, with `.broken` set and a warning in the log.
    """
    if broken not in ("stop", "keep"):
        raise UserError(f"clean.broken is {broken!r}", "use stop or keep")
    shown = name or str(path)
    watch = _Watch(f"{member} in {shown}" if member else shown, broken, "delete it and fetch it again")
    bare, layers = split_name(member or shown)
    ending = PurePosixPath(bare).suffix
    stem = bare.removesuffix(ending) if ending[1:].isalpha() else bare
    with ExitStack() as stack:
        raw, stored = _open_member(path, member, watch, stack) if member else _open_plain(path, watch, stack)
        stream = stack.enter_context(Stream(raw, stored, watch, stem))
        for layer in layers:
            read = _OPEN_LAYER[layer](stream) if stored.size else _empty
            stream = stack.enter_context(Stream(_Decompressed(read, watch), stored, watch, stem))
        yield stream


def extract_member(wheel: Path, member: str, to: Path) -> None:
    """Copy one member of a wheel to a file, decompressed by its name; raises UserError as `open_stream` does."""
    with open_stream(wheel, member) as source, to.open("wb") as target:
        shutil.copyfileobj(source, target, BUFFER)


def _open_plain(path: Path, watch: _Watch, stack: ExitStack) -> tuple[io.FileIO, _Stored]:
    try:
        file = stack.enter_context(path.open("rb", buffering=0))
        return file, _Stored(path, file, 0, path.stat().st_size)
    except OSError as error:
        raise UserError(f"{watch.name} cannot be read: {error.strerror}", "check the path and its rights") from error


def _open_member(path: Path, member: str, watch: _Watch, stack: ExitStack) -> tuple[io.RawIOBase, _Stored]:
    """One member of a wheel, read as data: nothing is installed, imported or executed."""
    watch.remedy = (
        "the file is the one that its pinned sha256 names, so it was published broken: "
        "pin another version, with its sha256"
    )
    file, _ = _open_plain(path, watch, stack)
    try:
        archive = stack.enter_context(zipfile.ZipFile(cast(BinaryIO, file)))
        names = archive.namelist()
        if member not in names:
            raise UserError(f"{path} has no member {member!r}", f"use one of its {len(names)} names as member")
        opened = stack.enter_context(archive.open(member))
    except (zipfile.BadZipFile, EOFError, zlib.error, NotImplementedError, RuntimeError) as error:
        raise UserError(f"{watch.name} is broken: {error}", watch.remedy) from error
    # Opening has read the member's header, and nothing after it.
    return _Decompressed(cast(Any, opened).read1, watch), _Stored(
        path, file, file.tell(), archive.getinfo(member).compress_size
    )


def _empty(_: int) -> NoReturn:
    raise EOFError("it is empty")


def _open_zstd(below: Stream) -> Read:
    # Of the libraries for it, Arrow's stream is the one that bounds the memory and tells a file that is cut off.
    return cast(Read, pa.CompressedInputStream(pa.PythonFile(below, mode="r"), "zstd").read)


def _open_tar(below: Stream) -> Read:
    pieces = _tar_pieces(below)
    return lambda _: next(pieces, b"")


def _tar_pieces(below: Stream) -> Iterator[bytes]:
    """The contents of a tar's files, each but the last followed by a blank line."""
    tar: Any  # the stubs know neither `members` nor `read1`
    with tarfile.open(fileobj=below, mode="r|", bufsize=PIECE) as tar:
        last = b""
        while (info := tar.next()) is not None:
            tar.members.clear()  # or it would keep every header
            content = tar.extractfile(info) if info.isfile() else None
            if content is None or not info.size:
                continue
            if last:
                yield b"\n" if last.endswith(b"\n") else b"\n\n"
            while piece := content.read1(PIECE):
                last = piece
                yield piece
        # The module takes a damaged header for the end; and only the layer below knows whether it was whole.
        marked = False
        while piece := tar.fileobj.read(PIECE):
            if piece.count(0) != len(piece):
                raise tarfile.ReadError("a header is damaged")
            marked = True
        if not marked:
            raise EOFError("the archive ends before its end mark")


LAYERS = {".gz": [".gz"], ".xz": [".xz"], ".zst": [".zst"], ".tar": [".tar"], ".tgz": [".gz", ".tar"]}
LAYERS[".txz"] = [".xz", ".tar"]
_OPEN_LAYER: dict[str, Callable[[Stream], Read]] = {
    ".gz": lambda below: gzip.GzipFile(fileobj=below).read1,
    ".xz": lambda below: lzma.LZMAFile(below).read1,  # noqa: SIM115  # the stream below is closed, and with it this
    ".zst": _open_zstd,
    ".tar": _open_tar,
}
