"""Whose turn it is: background reading stands still while something is urgent, and goes on afterwards."""

import hashlib
import os
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

import pytest

from clp_transfer import bulk, turns
from clp_transfer.bulk import Reader, Writer, sha256_file
from clp_transfer.turns import let_pass, urgent

SHORT, LONG = 0.1, 30.0


def is_waiting(job: Future[object]) -> bool:
    return not wait([job], SHORT).done


def test_who_lets_pass_waits_for_all_that_is_urgent() -> None:
    let_pass()
    with ThreadPoolExecutor(1) as pool:
        with urgent():
            with pytest.raises(KeyError), urgent():
                raise KeyError
            job = pool.submit(let_pass)
            assert is_waiting(job)
        job.result(LONG)
    let_pass()


def test_nobody_waits_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    with ThreadPoolExecutor(1) as pool, urgent():
        job = pool.submit(let_pass)
        assert is_waiting(job)
        monkeypatch.setattr(turns, "LONGEST", 0.0)
        job.result(LONG)


def test_hashing_and_copying_stand_still_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "BLOCK", 4096)
    content = os.urandom(20_000)
    (tmp_path / "data").write_bytes(content)

    def copy() -> str:
        with Reader(tmp_path / "data") as reader, Writer(tmp_path / "out", len(content)) as writer:
            writer.copy(reader, 0, len(content))
        return writer.sha256

    with ThreadPoolExecutor(2) as pool:
        with urgent():
            jobs = [pool.submit(sha256_file, tmp_path / "data"), pool.submit(copy)]
            assert all(is_waiting(job) for job in jobs)
            with Reader(tmp_path / "data") as reader:  # what is urgent goes on
                reader.into(memoryview(found := bytearray(9000)), 5)
            assert found == content[5:9005]
        assert [job.result(LONG) for job in jobs] == [hashlib.sha256(content).hexdigest()] * 2
    assert (tmp_path / "out").read_bytes() == content
