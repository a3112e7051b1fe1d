from __future__ import annotations

import gzip
import io
import json
from collections import Counter
from pathlib import Path

import pytest

from clp_transfer.errors import UserError
from clp_transfer.prepare.documents import Document, clean
from clp_transfer.prepare.members import open_member
from clp_transfer.prepare.readers import find_reader, wikipedia_leads, wiktionary


def read(reader, content: bytes) -> tuple[list[Document], Counter[str]]:
    left_out: Counter[str] = Counter()
    return list(clean(reader(io.BytesIO(content), left_out), left_out)), left_out


def test_wiktionary_lines_become_word_and_glosses():
    documents, left_out = read(wiktionary, "Trödel\talte Waren | kurz für: Trödelmarkt\n".encode())
    assert documents == [
        Document("Trödel", "Trödel: alte Waren; kurz für: Trödelmarkt", ("alte Waren", "kurz für: Trödelmarkt"))
    ]
    assert not left_out


def test_wiktionary_drops_and_counts_what_is_no_text():
    lines = [b"a\tone", b"b\t\xff\xfe", b"\xc3\tx", b"no tab", b"c\t ", b"", b"a\tone", b"d\ttwo"]
    documents, left_out = read(wiktionary, b"\n".join(lines) + b"\n")
    assert [d.text for d in documents] == ["a: one", "d: two"]
    assert left_out == {"invalid_utf8": 2, "malformed": 1, "empty": 2, "duplicate": 1}


def test_wikipedia_leads_take_the_extract():
    entries = {
        "A": {"extract": "One – two."},
        "B": {"extract": "  "},
        "C": {},
        "D": "x",
        "E": {"extract": "One – two."},
    }
    documents, left_out = read(wikipedia_leads, json.dumps(entries).encode())
    assert documents == [Document("A", "One – two.")]
    assert left_out == {"empty": 1, "malformed": 2, "duplicate": 1}


def test_wikipedia_leads_keep_pairs_of_escapes_and_drop_halves():
    content = (
        rb'{"A": {"extract": "face \ud83d\ude00"}, "B": {"extract": "half \ud83d"}, "C": {"extract": "' + b'\xff"}}'
    )
    documents, left_out = read(wikipedia_leads, content)
    assert [d.text for d in documents] == ["face 😀"]
    assert left_out == {"invalid_utf8": 2}


@pytest.mark.parametrize("content", [b"{", b"[1]"])
def test_other_json_is_refused(content: bytes):
    with pytest.raises(UserError, match="Wikipedia leads"):
        read(wikipedia_leads, content)


def test_an_unknown_reader_names_the_known_ones():
    with pytest.raises(UserError, match="unknown reader 'wikitionary'") as error:
        find_reader("wikitionary")
    assert "wiktionary, wikipedia_leads" in error.value.remedy


def cached(tmp_path: Path) -> Path:
    (path,) = (tmp_path / "cache").glob("*.whl")
    return path


def test_a_truncated_gzip_is_reported(tmp_path: Path, make_wheel):
    make_wheel("cut", "data/a.txt.gz", gzip.compress(b"word\tgloss\n" * 1000)[:-20])
    with (
        pytest.raises(UserError, match=r"data/a\.txt\.gz in .*cut.* is broken"),
        open_member(cached(tmp_path), "data/a.txt.gz") as file,
    ):
        list(wiktionary(file, Counter()))


def test_what_is_no_gzip_is_reported(tmp_path: Path, make_wheel):
    make_wheel("plain", "data/a.txt.gz", b"word\tgloss\n")
    with pytest.raises(UserError, match="is broken"), open_member(cached(tmp_path), "data/a.txt.gz") as file:
        file.read()


def test_a_damaged_member_is_reported(tmp_path: Path, make_wheel):
    make_wheel("damaged", "data/a.txt", b"A" * 1000)
    path = cached(tmp_path)
    path.write_bytes(path.read_bytes().replace(b"AAAA", b"AABA", 1))
    with pytest.raises(UserError, match="is broken: Bad CRC-32"), open_member(path, "data/a.txt") as file:
        file.read()


def test_a_broken_zip_and_a_missing_member_are_reported(tmp_path: Path, make_wheel):
    make_wheel("some", "data/a.txt", b"text")
    with pytest.raises(UserError, match=r"no member 'data/b\.txt'"), open_member(cached(tmp_path), "data/b.txt"):
        pass
    (tmp_path / "broken.whl").write_bytes(b"PK nothing")
    with pytest.raises(UserError, match="is broken"), open_member(tmp_path / "broken.whl", "data/a.txt"):
        pass
