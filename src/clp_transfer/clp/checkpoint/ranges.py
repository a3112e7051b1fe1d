"""Bytes from file to file without passing through this process: clones, links, copied ranges."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from clp_transfer.errors import UserError

FICLONE = 0x40049409  # Linux: make a file share another one's blocks until either is written to
CHUNK = 8 << 20
# What a file system says that cannot do it, or not between these two files.
CANNOT = {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTTY, errno.EPERM, errno.EMLINK}
CANNOT |= {errno.EACCES, errno.ETXTBSY, errno.EBADF}


def place(source: Path, out: Path, links: str) -> str:
    """Make `out` a file of the same bytes as `source`: cloned, hard-linked or copied; says which.

    A clone (reflink) shares the blocks until either file is written to, and is always safe. A hard link is the same
    file under a second name: whoever writes into one in place changes the other, so it is made only for
    `links="auto"`, never for `links="never"`.
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
    with source.open("rb") as reader, out.open("xb") as writer:
        copy_range(reader.fileno(), 0, writer.fileno(), source.stat().st_size)
    return "copied"


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


def copy_range(reader: int, start: int, writer: int, count: int) -> None:
    """Append `count` bytes of one open file, from `start` on, to another; raises UserError where it ends early.

    The kernel copies them where it can (and shares whole blocks where the file system does).
    """
    inside = True
    while count:
        if inside:
            try:
                done = os.copy_file_range(reader, writer, min(count, 1 << 30), offset_src=start)
            except OSError as error:
                if error.errno not in CANNOT:
                    raise
                inside = False
                continue
        else:
            block = os.pread(reader, min(count, CHUNK), start)
            done = len(block)
            write_all(writer, memoryview(block))
        if done == 0:
            raise UserError("a source file ended while it was copied", "leave the source alone while this runs")
        start, count = start + done, count - done


def write_all(writer: int, view: memoryview) -> None:
    """Append all of these bytes to an open file."""
    while view:
        view = view[os.write(writer, view) :]


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
