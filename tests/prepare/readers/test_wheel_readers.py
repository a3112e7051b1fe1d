"""The readers of the miniature's wheels."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from clp_transfer.errors import UserError
from clp_transfer.prepare.documents import Document, distinct
from clp_transfer.prepare.job import CleanConfig


def test_wiktionary_lines_become_word_and_glosses(read):
    documents, left_out = read("a.txt", "Trödel\talte Waren | kurz für: Trödelmarkt\n".encode(), reader="wiktionary")
    assert documents == [
        Document("Trödel", "Trödel: alte Waren; kurz für: Trödelmarkt", ("alte Waren", "kurz für: Trödelmarkt"))
    ]
    assert not left_out


def test_wiktionary_drops_and_counts_what_is_no_text(read):
    lines = [b"a\tone", b"b\t\xff\xfe", b"\xc3\tx", b"no tab", b"c\t ", b"", b"e\t" + b"x" * 99, b"d\ttwo"]
    documents, left_out = read("a.txt", b"\n".join(lines) + b"\n", reader="wiktionary", longest=99)
    assert [(d.id, d.text) for d in documents] == [
        ("a", "a: one"),
        ("b", "b: \udcff\udcfe"),
        ("\udcc3", "\udcc3: x"),
        ("c", ""),
        ("d", "d: two"),
    ]
    assert left_out == {"malformed": 1, "empty": 1, "too_long": 1}
    kept = list(distinct(documents, CleanConfig(), counts := Counter()))
    assert [d.text for d in kept] == ["a: one", "d: two"]
    assert counts == {"invalid_utf8": 2, "empty": 1}


def test_wikipedia_leads_take_the_extract(read):
    entries = {"A": {"extract": " One – two. "}, "B": {"extract": "  "}, "C": {}, "D": "x", "E": {"extract": None}}
    documents, left_out = read("a.json", json.dumps(entries).encode(), reader="wikipedia_leads")
    assert documents == [Document("A", "One – two."), Document("B", "")]
    assert left_out == {"malformed": 3}


def test_wikipedia_leads_keep_pairs_of_escapes_and_show_halves(read):
    content = (
        rb'{"A": {"extract": "face \ud83d\ude00"}, "B": {"extract": "half \ud83d"}, "C": {"extract": "' + b'\xff"}}'
    )
    documents, left_out = read("a.json", content, reader="wikipedia_leads")
    assert [d.text for d in documents] == ["face 😀", "half \ud83d", "\udcff"]
    assert not left_out


@pytest.mark.parametrize("content", [b"{", b"[1]", b"[" * 100_000])
def test_other_json_is_refused(read, content: bytes):
    with pytest.raises(UserError, match="Wikipedia leads"):
        read("a.json", content, reader="wikipedia_leads")
