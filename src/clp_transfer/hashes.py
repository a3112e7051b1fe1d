"""Content hashes of files, each computed once in a process: ahead of time, or by who copies the file anyway."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Lock, Thread

from clp_transfer.errors import UserError
from clp_transfer.files import sha256_file

_HASHES: dict[tuple[int, ...], Future[str]] = {}
_LOCK = Lock()


class Ahead(Mapping[str, str]):
    """Content hashes by name, computed in the background; whoever looks at one waits for them all."""

    def __init__(self, jobs: Mapping[str, Callable[[], str]]) -> None:
        self._jobs, self._found = dict(jobs), Future[dict[str, str]]()
        Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        try:
            self._found.set_result({name: job() for name, job in self._jobs.items()})
        except BaseException as error:  # raised where somebody looks
            self._found.set_exception(error)

    def __getitem__(self, name: str) -> str:
        return self._found.result()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._jobs)

    def __len__(self) -> int:
        return len(self._jobs)


def hash_files(paths: Sequence[Path]) -> dict[Path, str]:
    """SHA-256 of each file, computed once in a process for the same content on the disk, whatever its names."""
    # One processor is left to whoever computes meanwhile.
    with ThreadPoolExecutor(max(1, (os.cpu_count() or 1) - 1)) as pool:
        return dict(zip(paths, pool.map(_hash, paths), strict=True))


def remember_hash(path: Path, sha256: str) -> None:
    """Note the SHA-256 of a file that is finished, from who wrote it, so that it need not be read again for it."""
    _HASHES[_identity(path)] = known = Future[str]()
    known.set_result(sha256)


@contextmanager
def hashed_on_the_way(path: Path) -> Iterator[Callable[[str], None]]:
    """For who is about to read a whole file and to hash what it reads: gives a function that is told the SHA-256.

    Whoever asks for the file's hash meanwhile waits for that instead of reading the file too. Where the hash is known
    already, or is being computed, nobody waits, and the function raises UserError where the two differ.
    """
    key, mine = _identity(path), Future[str]()
    with _LOCK:
        first = _HASHES.setdefault(key, mine)

    def tell(sha256: str) -> None:
        if first is mine:
            mine.set_result(sha256)
        elif first.done() and first.exception() is None and first.result() != sha256:
            raise UserError(
                f"{path} was read twice and had two contents",
                "leave the file alone while this runs; the disk may be failing; run it again",
            )

    try:
        yield tell
    finally:
        if first is mine and not mine.done():
            _forget(key, mine, _Untold())


def _forget(key: tuple[int, ...], future: Future[str], error: BaseException) -> None:
    with _LOCK:
        _HASHES.pop(key, None)
    future.set_exception(error)


class _Untold(Exception):
    """Who was to tell a hash has given up."""


def _identity(path: Path) -> tuple[int, ...]:
    state = path.stat()
    return (state.st_dev, state.st_ino, state.st_mtime_ns, state.st_size)


def _hash(path: Path) -> str:
    key, mine = _identity(path), Future[str]()
    with _LOCK:
        found = _HASHES.setdefault(key, mine)
    if found is mine:
        try:
            mine.set_result(sha256_file(path))
        except BaseException as error:
            _forget(key, mine, error)
    try:
        return found.result()
    except _Untold:
        return _hash(path)
