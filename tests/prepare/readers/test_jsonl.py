from __future__ import annotations

import gzip
import json
import random

import pytest

from clp_transfer.errors import UserError
from clp_transfer.prepare.documents import Document


def rows(*values: object) -> bytes:
    return b"".join(json.dumps(value, ensure_ascii=False).encode() + b"\n" for value in values)


def test_drawn_rows_come_back(read):
    """Any characters, written with and without escapes, with spaces around; against `json.loads` and `str.split`."""
    draw = random.Random(1)
    alphabet = 'aä ß€😀\n\t"\\\u2028\u0085\x00\x1f'
    texts = ["".join(draw.choices(alphabet, k=draw.randint(0, 60))) for _ in range(500)]
    content = "".join(
        draw.choice(["", " ", "\t"])
        + json.dumps({"n": number, "text": text, "id": f"ä{number}"}, ensure_ascii=draw.random() < 0.5)
        + draw.choice(["\n", "\r\n", " \n", "\n\n"])
        for number, text in enumerate(texts)
    ).encode()
    naive = [json.loads(line) for line in content.split(b"\n") if line.strip()]
    documents, left_out = read("a.jsonl.gz", gzip.compress(content))
    assert documents == [Document(row["id"], row["text"]) for row in naive]
    assert [document.text for document in documents] == texts
    assert left_out == {}


def test_fields_may_be_nested_and_names_missing(read):
    content = rows(
        {"content": {"body": "one"}, "meta": {"id": 7}},
        {"content": {"body": "two"}, "meta": None},
        {"content": "no object", "meta": {"id": "x"}},
        {"content.body": "a name with a dot", "meta": {"id": None}},
    )
    documents, left_out = read("part.jsonl", content, text="content.body", id="meta.id")
    assert documents == [
        Document("7", "one"),
        Document("part:2", "two"),
        Document("part:4", "a name with a dot"),
    ]
    assert left_out == {"without_field": 1}


def test_rows_are_dropped_for_a_value_or_a_member_of_a_list(read):
    """OSCAR 22.01's quality tags."""
    tags = [None, [], ["adult"], ["short_sentences", "noisy"], ["tiny"], "adult", {"adult": 1}]
    content = rows(
        *({"content": str(n), "metadata": {"annotation": tag}} for n, tag in enumerate(tags)),
        {"content": "7", "metadata": {}},
        {"content": "8"},
        {"content": "9", "flag": True},
        {"content": "10", "flag": "yes"},
        {"content": None, "metadata": {"annotation": ["adult"]}},
    )
    drop = {"metadata.annotation": ["adult", "noisy"], "flag": ["true"]}
    documents, left_out = read("a.jsonl", content, text="content", drop=drop)
    assert [document.text for document in documents] == ["0", "1", "4", "6", "7", "8", "10"]
    assert left_out == {"dropped_adult": 3, "dropped_noisy": 1, "dropped_true": 1}


def test_what_is_no_text_is_counted(read):
    content = rows({"text": "one"}, {"txt": "two"}, {"text": None}, {"text": ["a", "b"]}, {"text": 3}, {"text": ""})
    content += (
        b'{"text": "cut off\n[1]\n"text"\n{"text": "a"} {"text": "b"}\n\n  \n'
        + b"[" * 5000
        + b"\n"
        + rows({"text": "x"})
    )
    documents, left_out = read("a.jsonl", content)
    assert [document.text for document in documents] == ["one", "", "x"]
    assert documents[-1].id == "a:14"  # blank lines have numbers too
    assert left_out == {"without_field": 1, "empty": 1, "malformed": 7}


def test_bad_bytes_and_halves_of_escapes_stay_as_lone_surrogates(read):
    content = b'\xef\xbb\xbf{"text": "\xff\xc3"}\n{"text": "half \\ud83d, \\u0000"}\n{"text": "whole \\ud83d\\ude00"}\n'
    documents, left_out = read("a.jsonl", content)
    assert [document.text for document in documents] == ["\udcff\udcc3", "half \ud83d, \0", "whole 😀"]
    assert left_out == {}


def test_texts_up_to_the_longest_are_kept_whatever_else_the_line_holds(read):
    texts = ["ä" * 50, "ä" * 50 + "b", "c" * 100, "\ud83d" + "c" * 98]
    content = b"".join(json.dumps({"other": "x" * 1000, "text": text}).encode() + b"\n" for text in texts)
    content += b'{"text": "' + b"d" * 70_000 + b'"}\n' + rows({"text": "end"})
    documents, left_out = read("a.jsonl", content, longest=100)
    assert [document.text for document in documents] == ["ä" * 50, "c" * 100, "end"]
    assert left_out == {"too_long": 3}
    assert documents[-1].id == "a:6"


def test_a_first_row_without_the_field_is_an_error(read):
    content = rows({"content": "one", "metadata": {"language": "de", "tags": []}, "empty": {}})
    with pytest.raises(UserError) as error:
        read("a.jsonl", b"\n" + content)
    expected = "line 2, has no field 'text'; it has: content, metadata.language, metadata.tags, empty"
    assert error.value.problem.endswith(f"a.jsonl, {expected}")


@pytest.mark.parametrize("line", [b"Just text.\n", b"[\n", b'{"text": \n', b"\xff\xfe\n", b"3\n"])
def test_a_file_of_another_kind_is_an_error(read, line: bytes):
    with pytest.raises(UserError, match=r"a\.json does not look like JSON lines: .*\(line 1: "):
        read("a.json", line * 10)
    assert read("b.json", line * 9) == ([], {"malformed": 9})
    assert read("c.json", line * 9 + rows({"text": "x"}) + line * 10)[1] == {"malformed": 19}


def test_of_a_file_that_is_cut_off_the_last_row_is_malformed(read):
    lines = [rows({"text": f"{number} " + random.Random(number).randbytes(40).hex()}) for number in range(3000)]
    packed = gzip.compress(b"".join(lines))
    documents, left_out = read("kept.jsonl.gz", packed[: len(packed) // 2])
    assert 1000 < len(documents) < 2000
    assert [document.text for document in documents] == [json.loads(line)["text"] for line in lines[: len(documents)]]
    assert left_out in ({}, {"malformed": 1})
