"""Large files, past the system's cache and through it: the same bytes and hashes as Python's own."""

import errno
import hashlib
import os
import random
from pathlib import Path

import pytest

from clp_transfer import bulk
from clp_transfer.bulk import Reader, Writer, sha256_file

SIZE = 5 * 4096 + 123


@pytest.fixture(params=["cache", "disk", "disk refuses", "nothing cached", "huge"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How a small file is treated: as a small one, as a large one, and as one on a disk that wants no such thing."""
    monkeypatch.setattr(bulk, "BLOCK", 2 * 4096)
    if request.param != "cache":
        monkeypatch.setattr(bulk, "LARGE", 1)
        monkeypatch.setattr(bulk, "SMALL", 1)
    if request.param == "huge":
        monkeypatch.setattr(bulk, "HUGE", 1)
    real_write, real_read = os.write, os.preadv

    def refuse(descriptor: int) -> None:
        if bulk.fcntl.fcntl(descriptor, bulk.fcntl.F_GETFL) & bulk.DIRECT:
            raise OSError(errno.EINVAL, "Invalid argument")

    def picky_write(descriptor: int, data: memoryview) -> int:
        refuse(descriptor)
        return real_write(descriptor, data)

    def picky_read(descriptor: int, buffers: list[memoryview], start: int) -> int:
        refuse(descriptor)
        return real_read(descriptor, buffers, start)

    if request.param in ("nothing cached", "disk refuses", "huge"):
        monkeypatch.setattr(bulk, "is_cached", lambda *_: False)
    if request.param == "disk refuses":
        monkeypatch.setattr(os, "write", picky_write)
        monkeypatch.setattr(os, "preadv", picky_read)
    return str(request.param)


@pytest.fixture
def data(tmp_path: Path) -> tuple[Path, bytes]:
    content = random.Random(1).randbytes(SIZE)
    (tmp_path / "data").write_bytes(content)
    return tmp_path / "data", content


def test_hash(way: str, data: tuple[Path, bytes], tmp_path: Path) -> None:
    path, content = data
    assert sha256_file(path) == hashlib.sha256(content).hexdigest()
    (tmp_path / "empty").write_bytes(b"")
    assert sha256_file(tmp_path / "empty") == hashlib.sha256().hexdigest()


@pytest.mark.parametrize("start", [0, 1, 4096, 8000])
@pytest.mark.parametrize("before", [0, 7, 9000])
def test_copied_from_any_place_to_any_place(
    way: str, data: tuple[Path, bytes], tmp_path: Path, start: int, before: int
) -> None:
    path, content = data
    wanted = b"x" * before + content[start:] + content[5:10]
    with Reader(path) as reader, Writer(tmp_path / "out", len(wanted)) as writer:
        writer.write(memoryview(b"x" * before))
        writer.copy(reader, start, SIZE - start)
        writer.write(memoryview(content)[5:10])
    assert (tmp_path / "out").read_bytes() == wanted
    assert writer.sha256 == hashlib.sha256(wanted).hexdigest()


def test_a_large_file_that_is_not_cached_is_not_brought_there(
    way: str, data: tuple[Path, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it is read straight from the disk, no read goes through the cache."""
    flags: set[int] = set()
    real = os.preadv

    def noted(descriptor: int, buffers: list[memoryview], start: int) -> int:
        flags.add(bulk.fcntl.fcntl(descriptor, bulk.fcntl.F_GETFL) & bulk.DIRECT)
        return real(descriptor, buffers, start)

    monkeypatch.setattr(os, "preadv", noted)
    with Reader(data[0]) as reader:
        assert b"".join(bytes(block) for block in reader.blocks()) == data[1]
    tried = {"nothing cached": {bulk.DIRECT}, "huge": {bulk.DIRECT}, "disk refuses": {bulk.DIRECT, 0}}
    assert flags == tried.get(way, {0})


def test_the_file_that_was_opened_is_read_whatever_has_its_name(
    way: str, data: tuple[Path, bytes], tmp_path: Path
) -> None:
    path, content = data
    with Reader(path) as reader:
        (tmp_path / "other").write_bytes(bytes(SIZE))
        (tmp_path / "other").replace(path)
        assert b"".join(bytes(block) for block in reader.blocks()) == content


def test_no_question_is_about_more_than_is_read_before_the_next(
    way: str, data: tuple[Path, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A whole tensor that begins anywhere: as many pages asked about as there are, or a few times as many."""
    asked: list[int] = []
    monkeypatch.setattr(bulk, "BLOCK", 4096)
    monkeypatch.setattr(bulk, "is_cached", lambda _, start, count: bool(asked.append(count)))
    with Reader(data[0]) as reader:
        reader.into(memoryview(found := bytearray(SIZE - 5)), 5)
    assert found == data[1][5:] and max(asked, default=0) <= 4 * 4096


def test_what_ends_early_and_what_exists(way: str, data: tuple[Path, bytes], tmp_path: Path) -> None:
    path, _ = data
    with pytest.raises(EOFError) as error, Reader(path) as reader:
        reader.into(memoryview(bytearray(100)), SIZE - 90)
    assert error.value.args == (10,)
    with pytest.raises(FileExistsError):
        Writer(path, SIZE)


def test_a_full_disk(way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space"), Writer(tmp_path / "out", SIZE) as writer:
        for _ in range(9):
            writer.write(memoryview(bytes(4096)))
    assert writer.sha256 == ""
