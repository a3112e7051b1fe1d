"""Texts from files: to which part a document belongs, and how far a file is read."""

from __future__ import annotations

import json

import pytest

from clp_transfer.evaluate import texts
from clp_transfer.evaluate.texts import from_files
from clp_transfer.evaluate.tokens import Tokens


@pytest.fixture
def read(tokenizer, tmp_path):
    """A text from rows of JSON lines, in a file of this name."""

    def call(rows, name="news.jsonl", max_bytes=None):
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
        return from_files("a", [tmp_path / name], Tokens(tokenizer), max_bytes=max_bytes)

    return call


@pytest.mark.parametrize(
    ("rows", "parts"),
    [
        ([{"domain": "news:1"}, {"domain": "news:x"}, {}], ["news:1", "news:x", "(none)"]),
        ([{}, {"domain": "b"}], ["(none)", "b"]),
        ([{"source": "s"}, {"domain": "d", "source": "t"}], ["(none)", "d"]),
        ([{"source": "s"}, {"source": None}], ["s", "(none)"]),
        ([{"domain": ""}, {"domain": 3}], None),
        ([{"id": "x"}, {}], None),
    ],
)
def test_parts_are_what_the_rows_say(read, rows, parts) -> None:
    assert read([{"text": "the house", **row} for row in rows]).parts == parts


def test_a_part_that_is_no_utf8_is_left_out_with_its_document(read) -> None:
    found = read([{"text": "the house", "domain": "\ud800"}, {"text": "a dog", "domain": "b"}])
    assert found.parts == ["b"] and found.about["left_out"] == {"invalid_utf8": 1}


def test_a_file_is_read_no_further_than_max_bytes(read, monkeypatch) -> None:
    rows = [{"text": text} for text in ("", "the house", "a dog", "x" * 50, "", "", "city")]
    looked_at, valid = [], texts.valid
    monkeypatch.setattr(texts, "valid", lambda *args: looked_at.append(args[0].text) or valid(*args))
    found = read(rows, max_bytes=20)
    assert looked_at == ["", "the house", "a dog", "x" * 50]
    assert found.bytes.tolist() == [9, 5] and found.about["left_out"] == {"empty": 1}
    assert read(rows).about["left_out"] == {"empty": 3}
