"""Files that are whole or absent: write aside, sync, rename; hash; lock."""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from clp_transfer.bulk import sha256_file as sha256_file
from clp_transfer.errors import UserError

AT_FDCWD, RENAME_EXCHANGE = -100, 2  # Linux: <fcntl.h>, <linux/fs.h>


def sha256_json(value: Any) -> str:
    """SHA-256 of a JSON value in canonical form (sorted keys, no spaces)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def write_text(path: Path, text: str) -> None:
    """Write a text file so that a crash leaves the old file or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with aside.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically, indented, with sorted keys left in their given order."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file; raises UserError naming the file where it is missing or broken."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist", "run the stage that makes it first") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid JSON: {error}", "delete it and run its stage again") from error


def sync_tree(folder: Path) -> None:
    """Flush every file below a folder to the disk, so that a rename after it publishes real bytes."""
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def publish(aside: Path, final: Path) -> None:
    """Rename a finished folder to its final name, replacing what was there.

    Where the file system can exchange two names at once, there is one or the other at every moment. Where it cannot,
    the old folder is renamed to `.<name>.old` first.
    """
    sync_tree(aside)
    old = final.with_name(f".{final.name}.old")
    if not os.path.lexists(final):
        aside.rename(final)
    elif not _exchange(aside, final):
        _remove(old)
        final.rename(old)
        aside.rename(final)
    _remove(old)
    _remove(aside)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two names in one step (Linux: `renameat2`); False where that cannot be done."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):  # another system, or an old C library
        return False
    return bool(renameat2(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE) == 0)


def _remove(path: Path) -> None:
    """Remove a folder, a file or a link, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock that dies with this process; raises UserError where another process holds it.

    `path` is `.<name>.lock` beside the file or folder `<name>` that is written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            written = path.with_name(path.name.removeprefix(".").removesuffix(".lock"))
            raise UserError(
                f"process {holder} is already writing {written}",
                "wait for it, stop it, or choose another name=",
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
