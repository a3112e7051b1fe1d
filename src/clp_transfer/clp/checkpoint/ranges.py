"""Whole files: cloned, linked or copied; and what a disk says that cannot."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from clp_transfer.bulk import Reader, Writer
from clp_transfer.errors import UserError
from clp_transfer.hashes import hashed_on_the_way, remember_hash

PART = 256 << 20  # bytes between two questions whether to go on
FICLONE = 0x40049409  # Linux: make a file share another one's blocks until either is written to
# What a file system says that cannot do it, or not between these two files.
CANNOT = {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTTY, errno.EPERM, errno.EMLINK}
CANNOT |= {errno.EACCES, errno.ETXTBSY, errno.EBADF}


class Stopped(Exception):
    """Copying a file was stopped before its end."""


def place(
    source: Path,
    out: Path,
    links: str,
    tell: Callable[[str], None] | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> str:
    """Make `out` a file of the same bytes as `source`: cloned, hard-linked or copied; says which.

    A clone (reflink) shares the blocks until either file is written to, and is always safe. A hard link is the same
    file under a second name: whoever writes into one in place changes the other, so it is made only for
    `links="auto"`, never for `links="never"`. `tell` is told the SHA-256 of what was copied; None: see
    `hashes.hashed_on_the_way`. Raises Stopped once `stopped` says so.
    """
    source = source.resolve()  # a hub cache holds symbolic links
    out.unlink(missing_ok=True)  # what an interrupted run left may be a hard link to the source: never write into it
    if _clone(source, out):
        return "cloned"
    if links == "auto":
        try:
            os.link(source, out)
        except OSError as error:
            if error.errno not in CANNOT:
                raise
        else:
            return "linked"
    with nullcontext(tell) if tell else hashed_on_the_way(source) as told:
        with reading(source) as reader, Writer(out, reader.size) as writer:
            for start in range(0, reader.size, PART):
                if stopped():
                    raise Stopped
                writer.copy(reader, start, min(PART, reader.size - start))
        told(writer.sha256)
    remember_hash(out, writer.sha256)
    return "copied"


@contextmanager
def reading(source: Path) -> Iterator[Reader]:
    """A file to copy from; raises UserError where it ends early."""
    try:
        with Reader(source) as reader:
            yield reader
    except EOFError as error:
        raise UserError("a source file ended while it was copied", "leave the source alone while this runs") from error


def _clone(source: Path, out: Path) -> bool:
    """Share the source's blocks, where the file system can."""
    with source.open("rb") as reader, out.open("xb") as writer:
        try:
            fcntl.ioctl(writer.fileno(), FICLONE, reader.fileno())
        except OSError as error:
            if error.errno not in CANNOT:
                raise
        else:
            return True
    out.unlink()
    return False


@contextmanager
def explained(out: Path) -> Iterator[None]:
    """Turn a full disk or a read-only folder into a UserError."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(f"the disk of {out} is full", "make room, or write to another disk") from error
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise UserError(
                f"{error.filename or out}: {error.strerror}", f"choose a folder to write to instead of {out}"
            ) from error
        raise


def check_space(out: Path, needed: int) -> None:
    """Raise UserError where the disk has not so many bytes left."""
    free = os.statvfs(out)
    left = free.f_bavail * free.f_frsize
    if needed > left:
        raise UserError(
            f"{out} needs {needed / 1e9:.1f} GB, its disk has {left / 1e9:.1f} GB left",
            "make room, or write to another disk",
        )
