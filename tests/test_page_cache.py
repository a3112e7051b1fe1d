"""What is said of the system's cache, against a read that may not wait."""

import errno
import mmap
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from clp_transfer import page_cache
from clp_transfer.page_cache import is_cached

PAGE = mmap.PAGESIZE
SIZE = 40 * PAGE + 17
PAGES = range(0, SIZE, PAGE)


def could_be_read(descriptor: int, start: int) -> bool:
    """Whether a byte could be read without waiting. Asked last: it makes the system read."""
    try:
        return os.preadv(descriptor, [bytearray(1)], start, os.RWF_NOWAIT) == 1
    except OSError as error:
        return error.errno == errno.EOPNOTSUPP  # a disk in memory does not know the question


@pytest.fixture
def descriptor(tmp_path: Path) -> Iterator[int]:
    """A file of which the system was asked to forget all that it holds (a disk in memory does not)."""
    (tmp_path / "data").write_bytes(os.urandom(SIZE))
    opened = os.open(tmp_path / "data", os.O_RDONLY)
    os.fsync(opened)
    os.posix_fadvise(opened, 0, 0, os.POSIX_FADV_DONTNEED)
    yield opened
    os.close(opened)


def test_what_is_forgotten_and_what_was_read(descriptor: int) -> None:
    told = [is_cached(descriptor, start, 1) for start in PAGES]
    time.sleep(0.1)
    assert [is_cached(descriptor, start, 1) for start in PAGES] == told, "to ask made the system read"
    assert is_cached(descriptor, 0, SIZE) == all(told)
    assert could_be_read(descriptor, SIZE - 1) == told[-1]
    os.pread(descriptor, SIZE, 0)
    assert is_cached(descriptor, 0, SIZE) and is_cached(descriptor, PAGE + 1, 3 * PAGE)


def test_one_page_that_lacks_is_enough(descriptor: int, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def mincore(begin: object, length: object, found: list[int]) -> int:
        found[:] = [1] * len(found)
        found[2] = 0
        seen.append(len(found))
        return 0

    monkeypatch.setattr(page_cache, "_MINCORE", mincore)
    assert not is_cached(descriptor, 0, 4 * PAGE) and seen == [4]
    monkeypatch.setattr(page_cache, "_MINCORE", lambda *_: -1)
    assert is_cached(descriptor, 0, 4 * PAGE)


def test_where_nothing_can_be_told(descriptor: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_cached(descriptor, 0, SIZE + PAGE) and is_cached(descriptor, SIZE, 0)
    reading, writing = os.pipe()
    assert is_cached(reading, 0, 1)
    os.close(reading), os.close(writing)
    monkeypatch.setattr(page_cache, "_MINCORE", None)
    assert is_cached(descriptor, 0, SIZE)


def test_an_interrupt_stays_one(descriptor: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*asked: object) -> int:
        del asked  # as a signal that comes here would find it: nobody but the caller holds anything
        raise KeyboardInterrupt

    monkeypatch.setattr(page_cache, "_MINCORE", stopped)
    with pytest.raises(KeyboardInterrupt):
        is_cached(descriptor, 0, SIZE)
