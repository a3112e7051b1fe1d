from __future__ import annotations

import gzip
import io
import itertools
import lzma
import random
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from clp_transfer.errors import UserError
from clp_transfer.prepare.streams import PIECE, extract_member, open_stream, split_name

DRAW = random.Random(4)
# Lines of all lengths, some empty, some of bytes that are no text; about 700 kB, of which a half can be squeezed out.
LINES = [DRAW.randbytes(DRAW.randint(0, 400)).replace(b"\n", b"") + b"x" * DRAW.randint(0, 400) for _ in range(1800)]
CONTENT = b"\n".join([*LINES, b"", b"y" * 20_000, b"last, without a line end"])


def zstd(data: bytes) -> bytes:
    return (
        pytest.importorskip("zstandard").ZstdCompressor(write_checksum=True).compress(data)
    )  # as the zstd command does


COMPRESS: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.compress, ".xz": lzma.compress, ".zst": zstd}


def tar(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        folder = tarfile.TarInfo("folder")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, content in files.items():
            info = tarfile.TarInfo(f"folder/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("suffix", ["", *COMPRESS])
@pytest.mark.parametrize("parts", [1, 3])
def test_a_file_reads_as_what_was_stored(tmp_path: Path, suffix: str, parts: int):
    """Also one of several members, streams or frames, as `cat a.gz b.gz` makes."""
    cuts = [len(CONTENT) * part // parts for part in range(parts + 1)]
    pieces = [CONTENT[a:b] for a, b in itertools.pairwise(cuts)]
    path = written(tmp_path / f"a.b.txt{suffix}", b"".join(COMPRESS.get(suffix, bytes)(piece) for piece in pieces))
    with open_stream(path) as stream:
        places = [stream.position()]
        found = []
        for line in stream:
            found.append(line)
            places.append(stream.position())
        assert b"".join(found) == CONTENT
        assert [line.removesuffix(b"\n") for line in found] == CONTENT.split(b"\n")
        assert not stream.broken
        assert stream.seekable() == (suffix == "")
    assert places == sorted(places)
    assert places[0] == 0
    assert places[-1] == stream.position() == stream.size == path.stat().st_size
    assert stream.stem == "a.b"


@pytest.mark.parametrize("suffix", list(COMPRESS))
@pytest.mark.parametrize("cut", [0, 1, 4, 20, 0.3, 0.9, -9, -1])
def test_a_file_that_is_cut_off_stops_or_ends_there(tmp_path: Path, caplog, suffix: str, cut: float):
    whole = COMPRESS[suffix](CONTENT)
    path = written(tmp_path / f"a.txt{suffix}", whole[: int(cut * len(whole)) if isinstance(cut, float) else cut])
    with pytest.raises(UserError, match=r"a\.txt\.\w+ is broken after [\d,]+ decompressed bytes: ") as error:  # noqa: SIM117
        with open_stream(path) as stream:
            stream.read()
    assert "fetch it again, or set clean.broken=keep" in error.value.remedy
    with open_stream(path, broken="keep") as stream:
        kept = stream.read()
        assert stream.broken
        assert stream.position() == stream.size
    assert CONTENT.startswith(kept)
    if isinstance(cut, float):  # at most a piece, and what a decompressor holds back, is lost
        assert len(kept) > cut * len(CONTENT) - 300_000
    assert sum("is broken after" in message for message in caplog.messages) == 1


@pytest.mark.parametrize("suffix", list(COMPRESS))
def test_damage_in_the_middle_is_found(tmp_path: Path, suffix: str):
    stored = bytearray(COMPRESS[suffix](CONTENT))
    stored[len(stored) // 2 : len(stored) // 2 + 8] = b"\xff\x00damage"
    path = written(tmp_path / f"a.txt{suffix}", bytes(stored))
    with pytest.raises(UserError, match="is broken"), open_stream(path) as stream:
        stream.read()
    with open_stream(path, broken="keep") as stream:
        assert len(stream.read()) <= len(CONTENT) + 300_000
        assert stream.broken


@pytest.mark.parametrize("suffix", list(COMPRESS))
def test_what_is_not_compressed_is_broken(tmp_path: Path, suffix: str):
    path = written(tmp_path / f"a.txt{suffix}", b"<html>Not found</html>")
    with pytest.raises(UserError, match="is broken after 0 decompressed bytes"), open_stream(path) as stream:
        stream.read()


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.tgz", "a.tar.xz", "a.txt.tar.zst"])
def test_a_tar_gives_its_files_in_their_order(tmp_path: Path, name: str):
    archive = tar(b=b"one\n", empty=b"", a=b"two", c=LINES[0] * 900)
    layer = {"gz": ".gz", "tgz": ".gz", "xz": ".xz", "zst": ".zst"}.get(name.rpartition(".")[2], "")
    path = written(tmp_path / name, COMPRESS.get(layer, bytes)(archive))
    with open_stream(path) as stream:
        assert stream.read() == b"one\n\ntwo\n\n" + LINES[0] * 900
        assert stream.position() == stream.size
        assert stream.stem == "a"


ARCHIVE = tar(a=b"one\n" * 500, b=b"two\n" * 500)  # headers at 0 (the folder), 512 and 3072, the end mark at 5632


@pytest.mark.parametrize("cut", [100, 512, 600, 3000, 3072, 3100, 3700, 5632])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_tar_that_is_cut_off_stops_or_ends_there(tmp_path: Path, cut: int, suffix: str):
    path = written(tmp_path / f"a.tar{suffix}", COMPRESS.get(suffix, bytes)(ARCHIVE[:cut]))
    with pytest.raises(UserError, match="is broken"), open_stream(path) as stream:
        stream.read()
    with open_stream(path, broken="keep") as stream:
        kept = stream.read()
        assert stream.broken
    assert kept == (b"one\n" * 500 + b"\n" + b"two\n" * 500)[: len(kept)]
    assert len(kept) >= {3072: 2000, 3700: 2000, 5632: 4001}.get(cut, 0)


def test_of_a_tar_that_is_cut_off_at_most_a_piece_is_lost(tmp_path: Path):
    path = written(tmp_path / "a.tar", tar(a=CONTENT)[:-200_000])
    with open_stream(path, broken="keep") as stream:
        kept = stream.read()
    assert CONTENT.startswith(kept)
    assert len(kept) > path.stat().st_size - 1024 - PIECE


def test_a_tar_in_a_gzip_that_is_cut_off_and_a_damaged_header_are_reported(tmp_path: Path):
    path = written(tmp_path / "a.tar.gz", gzip.compress(ARCHIVE)[:-20])
    with pytest.raises(UserError, match="ended before the end-of-stream marker"), open_stream(path) as stream:
        stream.read()
    path = written(tmp_path / "b.tar", ARCHIVE[:3072] + b"\x01" * 512 + ARCHIVE[3584:])
    with pytest.raises(UserError, match="a header is damaged"), open_stream(path) as stream:
        stream.read()


def test_names_tell_the_layers():
    assert split_name("https://host/x/b.jsonl.gz?download=1#top") == ("b.jsonl", [".gz"])
    assert split_name("https://host/get#part_1.jsonl.gz") == ("part_1.jsonl", [".gz"])
    assert split_name("w-1.0.whl!data/a.TXT.XZ") == ("a.TXT", [".xz"])
    assert split_name("a.v1.tgz") == ("a.v1", [".gz", ".tar"])
    assert split_name("a.parquet") == ("a.parquet", [])


def test_a_name_stands_for_the_path(tmp_path: Path):
    path = written(tmp_path / "0f3a", gzip.compress(b"text"))
    with open_stream(path, name="https://host/de_part_1.txt.gz") as stream:
        assert (stream.read(), stream.stem) == (b"text", "de_part_1")


def test_stems_of_numbered_parts_differ(tmp_path: Path):
    for name in ("part.001.gz", "part.002.gz"):
        with open_stream(written(tmp_path / name, gzip.compress(b""))) as stream:
            assert stream.stem == name[:8]


def test_a_missing_file_and_an_unknown_option_are_reported(tmp_path: Path):
    with pytest.raises(UserError, match=r"a\.txt cannot be read: No such file"), open_stream(tmp_path / "a.txt"):
        pass
    with pytest.raises(UserError, match=r"clean\.broken is 'ignore'"), open_stream(tmp_path, broken="ignore"):
        pass


PEAK = """
import gzip, sys
from pathlib import Path
from clp_transfer.prepare.streams import open_stream
from clp_transfer.prepare.readers.lines import bounded_lines
def peak():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
before = peak()
for name in sys.argv[1:]:
    with open_stream(Path(name)) as stream:
        assert [line and len(line) for line in bounded_lines(stream, 4 << 20)] == [2, None, 2], name
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_an_endless_line_takes_no_more_memory_than_a_long_one(tmp_path: Path):
    length = 80_000_000
    with (tmp_path / "a.txt").open("wb") as plain, gzip.open(tmp_path / "a.txt.gz", "wb", 1) as packed:
        for file in (plain, packed):
            file.write(b"a\n")
            for _ in range(80):
                file.write(b"b" * (length // 80))
            file.write(b"\nc\n")
    paths = [tmp_path / "a.txt", tmp_path / "a.txt.gz"]
    zstandard = pytest.importorskip("zstandard")
    with paths[0].open("rb") as source, (tmp_path / "a.txt.zst").open("wb") as target:
        zstandard.ZstdCompressor(1).copy_stream(source, target)
    out = subprocess.run(
        [sys.executable, "-c", PEAK, *map(str, paths), str(tmp_path / "a.txt.zst")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(out.stdout) < 24_000  # kB


def members(tmp_path: Path) -> Path:
    (path,) = (tmp_path / "cache").glob("*.whl")
    return path


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_member_of_a_wheel_is_decompressed_by_its_name(tmp_path: Path, method: int, suffix: str):
    content = COMPRESS.get(suffix, bytes)(CONTENT)
    with zipfile.ZipFile(tmp_path / "a.whl", "w", method) as archive:
        archive.writestr("before.txt", CONTENT)
        archive.writestr(f"data/a.txt{suffix}", content)
        size = archive.getinfo(f"data/a.txt{suffix}").compress_size
    with open_stream(tmp_path / "a.whl", f"data/a.txt{suffix}") as stream:
        assert (stream.position(), stream.size, stream.stem) == (0, size, "a")
        assert stream.read() == CONTENT
        assert stream.position() == size
    extract_member(tmp_path / "a.whl", f"data/a.txt{suffix}", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == CONTENT


def test_a_truncated_gzip_in_a_wheel_is_reported(tmp_path: Path, make_wheel):
    make_wheel("cut", "data/a.txt.gz", gzip.compress(b"word\tgloss\n" * 1000)[:-20])
    with pytest.raises(UserError, match=r"data/a\.txt\.gz in .*cut.* is broken") as error:  # noqa: SIM117
        with open_stream(members(tmp_path), "data/a.txt.gz") as file:
            list(file)
    assert "pin another version" in error.value.remedy
    with open_stream(members(tmp_path), "data/a.txt.gz", broken="keep") as file:
        assert (b"word\tgloss\n" * 1000).startswith(file.read())
        assert file.broken


def test_what_is_no_gzip_is_reported(tmp_path: Path, make_wheel):
    make_wheel("plain", "data/a.txt.gz", b"word\tgloss\n")
    with pytest.raises(UserError, match="is broken"), open_stream(members(tmp_path), "data/a.txt.gz") as file:
        file.read()


def test_a_damaged_member_is_reported(tmp_path: Path, make_wheel):
    make_wheel("damaged", "data/a.txt", b"A" * 1000)
    path = members(tmp_path)
    path.write_bytes(path.read_bytes().replace(b"AAAA", b"AABA", 1))
    with pytest.raises(UserError, match=r"is broken .*Bad CRC-32"), open_stream(path, "data/a.txt") as file:
        file.read()


def test_a_broken_zip_and_a_missing_member_are_reported(tmp_path: Path, make_wheel):
    make_wheel("some", "data/a.txt", b"text")
    with pytest.raises(UserError, match=r"no member 'data/b\.txt'"), open_stream(members(tmp_path), "data/b.txt"):
        pass
    (tmp_path / "broken.whl").write_bytes(b"PK nothing")
    with pytest.raises(UserError, match="is broken"), open_stream(tmp_path / "broken.whl", "data/a.txt"):
        pass


def test_the_disks_own_errors_are_not_the_files(tmp_path: Path, monkeypatch):
    """An error with a number, such as EIO, is no sign of a broken file: `keep` must not hide it."""
    path = written(tmp_path / "a.txt.gz", gzip.compress(CONTENT))

    def fail(*_: object) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(gzip.GzipFile, "read1", fail)
    with pytest.raises(OSError, match="Input/output error"), open_stream(path, broken="keep") as stream:
        stream.read()
