from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from clp_transfer.errors import UserError
from clp_transfer.prepare.job import HubConfig, SourceConfig, WheelConfig
from clp_transfer.prepare.sources import fingerprints as module
from clp_transfer.prepare.sources import locate, wheels
from clp_transfer.prepare.sources.download import Downloads
from clp_transfer.prepare.sources.local import expand_ranges


def write(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"text of {name}")
        os.utime(path, (1_600_000_000, 1_600_000_000))


def names(files, folder: Path) -> list[str]:
    return [str(Path(file.name).relative_to(folder)) for file in files]


@pytest.mark.parametrize(
    "config",
    [
        SourceConfig(),
        SourceConfig(files=["a.txt"], hub=HubConfig("a/b")),
        SourceConfig(wheel=WheelConfig(), hub=HubConfig("a/b"), files=["a.txt"]),
    ],
)
def test_one_place_and_no_other(config, cache):
    with pytest.raises(UserError, match=r"source 'oscar' names .* where its texts are"):
        locate("oscar", config, cache)


def test_part_2_comes_before_part_10(tmp_path, cache):
    write(tmp_path, *(f"de_part_{i}.txt" for i in (10, 1, 2, 100, 21)), ".de_part_3.txt", "fr_part_1.txt")
    files = locate("oscar", SourceConfig(files=[f"{tmp_path}/de_part_*.txt"]), cache)
    assert names(files, tmp_path) == [f"de_part_{i}.txt" for i in (1, 2, 10, 21, 100)]
    assert [file.source for file in files] == ["oscar"] * 5
    for file in files:
        content = Path(file.name).read_bytes()
        assert file.fetch() == Path(file.name)
        assert (file.size, file.fingerprint) == (len(content), hashlib.sha256(content).hexdigest())


def test_the_order_of_the_patterns_stands_and_each_file_comes_once(tmp_path, cache):
    write(tmp_path, "a/1.txt", "a/deep/er/2.txt", "b/3.txt", "odd[1].txt")
    patterns = [f"{tmp_path}/b/*.txt", f"{tmp_path}/**/*.txt", f"{tmp_path}/odd[1].txt"]
    files = locate("s", SourceConfig(files=patterns), cache)
    assert names(files, tmp_path) == ["b/3.txt", "a/1.txt", "a/deep/er/2.txt", "odd[1].txt"]


def test_home_and_ranges(tmp_path, cache, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path, "p_08.txt", "p_09.txt", "p_10.txt")
    files = locate("s", SourceConfig(files=["~/p_{08..10}.txt"]), cache)
    assert names(files, tmp_path) == ["p_08.txt", "p_09.txt", "p_10.txt"]


def test_ranges_as_a_shell_expands_them():
    assert expand_ranges("a") == ["a"]
    assert expand_ranges("x{9..11}y") == ["x9y", "x10y", "x11y"]
    assert expand_ranges("{3..1}") == ["3", "2", "1"]
    assert expand_ranges("{1..2}-{01..02}") == ["1-01", "1-02", "2-01", "2-02"]
    with pytest.raises(UserError, match="stands for more than"):
        expand_ranges("{1..999999999}")


def test_what_matches_nothing_is_named_with_what_is_there(tmp_path, cache):
    write(tmp_path, "data/de.txt", "data/sub/x.txt")
    with pytest.raises(UserError) as error:
        locate("s", SourceConfig(files=[f"{tmp_path}/data/de.txt", f"{tmp_path}/data/gone/*.gz"]), cache)
    assert f"{tmp_path}/data/gone/*.gz matches no file: {tmp_path}/data has de.txt, sub/" in error.value.problem
    with pytest.raises(UserError, match=r"is a folder: .*/sub has x\.txt"):
        locate("s", SourceConfig(files=[f"{tmp_path}/data/sub"]), cache)
    with pytest.raises(UserError, match="no such user"):
        locate("s", SourceConfig(files=["~nobody-of-that-name/x"]), cache)
    with pytest.raises(UserError, match=r"ftp://h/x cannot be fetched"):
        locate("s", SourceConfig(files=["ftp://h/x"]), cache)


def test_a_file_is_hashed_once_and_again_when_it_changes(tmp_path, cache, monkeypatch):
    write(tmp_path, "a.txt", "b.txt")
    hashed: list[str] = []
    real = module._hash
    monkeypatch.setattr(module, "_hash", lambda path, progress: (hashed.append(path.name), real(path, progress))[1])
    config = SourceConfig(files=[f"{tmp_path}/*.txt"])
    first = locate("s", config, cache)
    assert locate("s", config, cache) == first
    assert hashed == ["a.txt", "b.txt"]
    (tmp_path / "b.txt").write_text("other of b.txt")
    os.utime(tmp_path / "b.txt", (1_600_000_000, 1_600_000_001))
    second = locate("s", config, cache)
    assert hashed == ["a.txt", "b.txt", "b.txt"]
    assert second[0] == first[0]
    assert second[1].fingerprint == hashlib.sha256(b"other of b.txt").hexdigest()


def test_a_file_written_just_now_is_not_remembered(tmp_path, cache):
    path = tmp_path / "a.txt"
    path.write_text("one")
    (before,) = locate("s", SourceConfig(files=[str(path)]), cache)
    stat = path.stat()
    path.write_text("two")  # as large, within the same tick of the clock
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    (after,) = locate("s", SourceConfig(files=[str(path)]), cache)
    assert before.fingerprint != after.fingerprint


@pytest.mark.parametrize("content", ["{", "[1]", '{"x": 3}'])
def test_a_broken_record_only_costs_time(tmp_path, cache, content):
    write(tmp_path, "a.txt")
    cache.mkdir()
    (cache / "fingerprints.json").write_text(content)
    (file,) = locate("s", SourceConfig(files=[f"{tmp_path}/a.txt"]), cache)
    assert file.fingerprint == hashlib.sha256(b"text of a.txt").hexdigest()
    assert file.fingerprint in json.dumps(json.loads((cache / "fingerprints.json").read_text()))


def test_a_killed_run_keeps_the_hashes_it_has(tmp_path, cache, monkeypatch):
    write(tmp_path, "a.txt", "b.txt")
    real = module._hash

    def stop(path, progress):
        if path.name == "b.txt":
            raise KeyboardInterrupt
        return real(path, progress)

    monkeypatch.setattr(module, "_hash", stop)
    with pytest.raises(KeyboardInterrupt):
        locate("s", SourceConfig(files=[f"{tmp_path}/*.txt"]), cache)
    assert list(json.loads((cache / "fingerprints.json").read_text())) == [f"{tmp_path}/a.txt"]


def test_a_file_that_changes_as_it_is_read(tmp_path, cache, monkeypatch):
    path = tmp_path / "a.txt"
    path.write_text("one")
    real = hashlib.sha256
    monkeypatch.setattr(module.hashlib, "sha256", lambda: (path.write_text("longer"), real())[1])
    with pytest.raises(UserError, match="changed as it was read"):
        locate("s", SourceConfig(files=[str(path)]), cache)


def test_a_file_that_may_not_be_read(tmp_path, cache, monkeypatch):
    write(tmp_path, "a.txt")

    def refuse(path, progress):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(module, "_hash", refuse)  # the tests may run as root, which may read everything
    with pytest.raises(UserError, match=r"a\.txt of source 's' may not be read"):
        locate("s", SourceConfig(files=[f"{tmp_path}/a.txt"]), cache)


def test_a_wheel_gives_its_member(make_wheel, cache):
    config = make_wheel("words-de", "data/words.txt", b"hello hello hello")
    (file,) = locate("words", SourceConfig(wheel=config), cache)
    assert (file.name, file.member, file.size) == ("words-de==1.0!data/words.txt", "data/words.txt", 17)
    assert config.sha256 in file.fingerprint
    assert file.fetch() == cache / "words_de-1.0-py3-none-any.whl"
    config.member = ""
    with pytest.raises(UserError, match="names no member"):
        locate("words", SourceConfig(wheel=config), cache)


def test_a_wheel_is_not_fetched_before_it_is_read(make_wheel, cache, monkeypatch):
    config = make_wheel("words-de", "data/words.txt", b"hello")
    (cache / "words_de-1.0-py3-none-any.whl").unlink()
    monkeypatch.setattr(wheels.subprocess, "run", lambda *_, **__: pytest.fail("fetched"))
    (file,) = locate("words", SourceConfig(wheel=config), cache)
    assert (file.size, file.fingerprint) == (None, f"{config.sha256}!data/words.txt")
    with pytest.raises(UserError, match="64 hex digits"):
        locate("words", SourceConfig(wheel=replace(config, sha256="ab")), cache)


@pytest.mark.parametrize("entry", ["a.tokens", "http://user:secret@127.0.0.1:9/a.tokens?key=1"])
def test_an_unknown_ending_is_told_before_anything_is_read_or_asked(tmp_path, cache, monkeypatch, entry):
    write(tmp_path, "a.tokens")
    monkeypatch.setattr(module, "_hash", lambda *_: pytest.fail("read"))
    monkeypatch.setattr(Downloads, "locate", lambda *_: pytest.fail("asked"))
    config = SourceConfig(files=[entry if "://" in entry else f"{tmp_path}/{entry}"])
    with pytest.raises(UserError, match=r"a\.tokens: no reader goes with this name") as error:
        locate("s", config, cache)
    assert "secret" not in str(error.value) and "`reader`" in error.value.remedy
