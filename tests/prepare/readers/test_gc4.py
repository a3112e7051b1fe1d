"""GC4's reader against rows written the way the archives hold them."""

from __future__ import annotations

import io
import tarfile
from collections import Counter
from pathlib import Path

import pytest

from clp_transfer.errors import UserError
from clp_transfer.prepare.job import SourceConfig
from clp_transfer.prepare.readers import ReadLimits
from clp_transfer.prepare.readers.gc4 import gc4
from clp_transfer.prepare.streams import open_stream

CONFIG = SourceConfig(reader="gc4", text="raw_content", id="digest", drop={"bucket": ["tail"]})


def archive(path: Path, content: bytes) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        info = tarfile.TarInfo("de_head_0000.txt")
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    return path


def row(number: int, text: object, bucket: str = "head") -> bytes:
    return repr({"url": f"http://a/{number}", "digest": f"d{number}", "raw_content": text, "bucket": bucket}).encode()


def read(path: Path, longest: int = 10_000) -> tuple[list[tuple[str, str]], Counter[str]]:
    counts: Counter[str] = Counter()
    with open_stream(path) as stream:
        return [(d.id, d.text) for d in gc4(stream, CONFIG, ReadLimits(longest), counts)], counts


def test_the_texts_come_back_and_the_rest_is_counted(tmp_path: Path) -> None:
    texts = ["Grüße\nan 'alle'", 'das "andere"', "Straße}{ " * 300_000, "ende"]
    rows = [row(0, texts[0]), row(1, texts[1]), row(2, texts[2]), row(3, "x", "tail"), row(4, None), row(5, texts[3])]
    documents, counts = read(archive(tmp_path / "a.tar.gz", b"".join([*rows, b"{'url': broken"])), 4_000_000)
    assert documents == [("d0", texts[0]), ("d1", texts[1]), ("d2", texts[2]), ("d5", texts[3])]
    assert counts == {"dropped_tail": 1, "without_field": 1, "malformed": 1}
    documents, counts = read(archive(tmp_path / "b.tar.gz", b"".join(rows)), 1000)
    assert [name for name, _ in documents] == ["d0", "d1", "d5"] and counts["too_long"] == 1


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="raw_content"):
        read(archive(tmp_path / "c.tar.gz", b'{"text": "JSON"}\n'))
