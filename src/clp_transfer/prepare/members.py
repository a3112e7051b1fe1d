"""Files inside a wheel, read as data: nothing is installed, imported or executed."""

from __future__ import annotations

import gzip
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from clp_transfer.errors import UserError


@contextmanager
def open_member(wheel: Path, member: str) -> Iterator[IO[bytes]]:
    """Open one member of a wheel for reading bytes; a name ending in `.gz` is decompressed on the way.

    Raises UserError, also from within the block as the bytes are read, where the archive, the member or its
    gzip is broken, and where there is no such member.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            if member not in archive.namelist():
                raise UserError(
                    f"{wheel} has no member {member!r}", f"use one of its {len(archive.namelist())} names as member"
                )
            with archive.open(member) as raw:
                if member.endswith(".gz"):
                    with gzip.open(raw) as file:
                        yield cast(IO[bytes], file)
                else:
                    yield raw
    except (zipfile.BadZipFile, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(
            f"{member} in {wheel} is broken: {error}",
            "the file is the one that its pinned sha256 names, so it was published broken: "
            "pin another version, with its sha256",
        ) from error


def extract_member(wheel: Path, member: str, to: Path) -> None:
    """Copy one member to a file; raises UserError as `open_member` does."""
    with open_member(wheel, member) as source, to.open("wb") as target:
        shutil.copyfileobj(source, target, 1 << 20)
