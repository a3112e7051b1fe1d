"""Hashes of files: right, computed once, and left to who copies the file anyway."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from clp_transfer import hashes
from clp_transfer.clp.checkpoint.ranges import place
from clp_transfer.errors import UserError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "weights"
    path.write_bytes(b"abc" * 100_000)
    return path


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were read for their hash alone."""
    found: list[Path] = []
    real = hashes.sha256_file
    monkeypatch.setattr(hashes, "sha256_file", lambda path: (found.append(path), real(path))[1])
    return found


def right(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_file_is_read_once_and_again_when_it_changes(file: Path, reads: list[Path]) -> None:
    for _ in range(2):
        assert hashes.hash_files([file]) == {file: right(file)}
    assert reads == [file]
    file.write_bytes(b"other")
    assert hashes.hash_files([file]) == {file: right(file)}
    assert reads == [file, file]


def test_a_copied_file_is_not_read_again(file: Path, tmp_path: Path, reads: list[Path]) -> None:
    """Neither the original nor the copy, whatever the order in which their hashes are asked for."""
    copy = tmp_path / "copy"
    if place(file, copy, "never") != "copied":
        pytest.skip("this file system clones")
    assert hashes.hash_files([copy, file]) == {copy: right(file), file: right(file)}
    assert reads == []


def test_who_asks_while_a_file_is_copied_waits(file: Path, reads: list[Path]) -> None:
    with ThreadPoolExecutor(1) as pool:
        with hashes.hashed_on_the_way(file) as tell:
            asked = pool.submit(hashes.hash_files, [file])
            with pytest.raises(TimeoutError):
                asked.result(timeout=0.2)
            tell(right(file))
        assert asked.result(timeout=10) == {file: right(file)}
    assert reads == []


def test_a_copy_that_fails_leaves_nobody_waiting(file: Path, reads: list[Path]) -> None:
    with ThreadPoolExecutor(1) as pool:
        with pytest.raises(RuntimeError), hashes.hashed_on_the_way(file):
            asked = pool.submit(hashes.hash_files, [file])
            with pytest.raises(TimeoutError):
                asked.result(timeout=0.2)
            raise RuntimeError("the disk is full")
        assert asked.result(timeout=10) == {file: right(file)}
    assert reads == [file]


def test_a_file_that_reads_differently_the_second_time_is_told(file: Path) -> None:
    hashes.hash_files([file])
    with hashes.hashed_on_the_way(file) as tell:
        tell(right(file))
        with pytest.raises(UserError, match="two contents"):
            tell("0" * 64)


def test_a_file_that_cannot_be_read_says_so_each_time(tmp_path: Path, file: Path, monkeypatch) -> None:
    def fails(path: Path) -> str:
        raise OSError("no")

    with monkeypatch.context() as patched:
        patched.setattr(hashes, "sha256_file", fails)
        for _ in range(2):
            with pytest.raises(OSError, match="no"):
                hashes.hash_files([file])
    assert hashes.hash_files([file]) == {file: right(file)}
