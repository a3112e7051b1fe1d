from __future__ import annotations

import gzip
import random
import re

import pytest

from clp_transfer.prepare.documents import Document


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_blank_line_ends_a_document(read, end: str):
    """Against a split at runs of blank lines."""
    draw = random.Random(2)
    lines = [draw.choice(["", "", "  ", "ein Satz.", " ä\0b ", "x" * 100]) for _ in range(600)]
    content = end.join(lines)
    naive = re.split(r"\n(?:[ ]*\n)+", re.sub(r"\r\n", "\n", content))
    naive = [part.removeprefix("\n") for part in naive if part.strip()]
    documents, left_out = read("de_part_1.txt.gz", gzip.compress(content.encode()))
    assert [document.text for document in documents] == [re.sub(r"\n *$|^ *\n", "", text) for text in naive]
    assert [document.id for document in documents] == [f"de_part_1:{n}" for n in range(1, len(naive) + 1)]
    assert left_out == {}


def test_long_documents_are_counted_and_numbered(read):
    parts = ["a" * 10, "b" * 11, "cccc\nddddd", "eeeee\nfffff\ng", "h" * 100 + "\ni", "j\n" + "k" * 100, "l"]
    documents, left_out = read("a.txt", "\n\n".join(parts).encode(), longest=10)
    assert documents == [Document("a:1", parts[0]), Document("a:3", parts[2]), Document("a:7", "l")]
    assert left_out == {"too_long": 4}


def test_bad_bytes_stay(read):
    assert read("a.txt", b"\xef\xbb\xbfa\xff\n\xc3") == ([Document("a:1", "a\udcff\n\udcc3")], {})


def test_every_line_a_document(read):
    content = "\ufeffeins\n\nzwei ä\r\n   \n" + "x" * 101 + "\n" + "y" * 100 + "\nend"
    documents, left_out = read("a.txt", content.encode(), reader="lines", longest=100)
    assert documents == [
        Document("a:1", "eins"),
        Document("a:3", "zwei ä"),
        Document("a:6", "y" * 100),
        Document("a:7", "end"),
    ]
    assert left_out == {"empty": 2, "too_long": 1}


@pytest.mark.parametrize("reader", ["text", "lines", "jsonl", "wiktionary"])
def test_an_empty_file_has_no_documents(read, reader: str):
    assert read("a.txt", b"", reader=reader) == ([], {})
    assert read("a.txt.gz", gzip.compress(b""), reader=reader) == ([], {})
