"""SHA-256 of local files, remembered by path, size, time and inode: a corpus is read through for it only once."""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clp_transfer.bulk import Reader
from clp_transfer.errors import UserError
from clp_transfer.files import read_json, write_json
from clp_transfer.progress import Progress

log = logging.getLogger(__name__)

SAVE_SECONDS = 10.0
# A file changed so shortly ago may change again within the same tick of its time stamp: it is not remembered.
SETTLED_NS = 2_000_000_000


def fingerprints(paths: Sequence[Path], record: Path) -> dict[Path, str]:
    """The files' SHA-256 as 64 hex digits; `record` (JSON) keeps them between runs, also of a run that is killed.

    Raises UserError for a file that changes as it is read.
    """
    known = _read(record)
    hashes: dict[Path, str] = {}
    new = [path for path in paths if _remembered(path, known) is None]
    saved = time.monotonic()
    try:
        with Progress("checking files", sum(path.stat().st_size for path in new)) as progress:
            for path in paths:
                entry = _remembered(path, known) or _hash(path, progress)
                hashes[path] = entry["sha256"]
                if time.time_ns() - entry["mtime_ns"] > SETTLED_NS:
                    known[str(path.resolve())] = entry
                if time.monotonic() - saved > SAVE_SECONDS:
                    write_json(record, known)
                    saved = time.monotonic()
    finally:
        if new:
            write_json(record, known)
    return hashes


def _read(record: Path) -> dict[str, dict[str, Any]]:
    if not record.is_file():
        return {}
    try:
        return dict(read_json(record))
    except (UserError, TypeError, ValueError):
        log.warning("%s is broken: hashing the files again", record)
        return {}


def _look(path: Path) -> dict[str, int]:
    stat: os.stat_result = path.stat()
    return {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns, "inode": stat.st_ino}


def _remembered(path: Path, known: dict[str, dict[str, Any]]) -> dict[str, Any] | None:
    entry = known.get(str(path.resolve()), {})
    return entry if "sha256" in entry and entry == {**_look(path), "sha256": entry["sha256"]} else None


def _hash(path: Path, progress: Progress) -> dict[str, Any]:
    before, digest = _look(path), hashlib.sha256()
    with Reader(path) as reader:
        for block in reader.blocks():
            digest.update(block)
            progress.add(len(block))
    if _look(path) != before:
        raise UserError(f"{path} changed as it was read", "wait until it is written, then run again")
    return {**before, "sha256": digest.hexdigest()}
