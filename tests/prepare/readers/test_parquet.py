from __future__ import annotations

import gzip
import io
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clp_transfer.errors import UserError
from clp_transfer.prepare.documents import Document, valid
from clp_transfer.prepare.job import CleanConfig, SourceConfig
from clp_transfer.prepare.readers import ReadLimits
from clp_transfer.prepare.readers.parquet import parquet
from clp_transfer.prepare.streams import open_stream


def stored(table: pa.Table | dict[str, list[Any]], **options: Any) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table if isinstance(table, pa.Table) else pa.table(table), buffer, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_drawn_rows_come_back(read, kind: pa.DataType):
    draw = random.Random(3)
    texts = ["".join(draw.choices("aä€😀\n\0 ", k=draw.randint(0, 300))) for _ in range(5000)]
    content = stored(
        pa.table({"other": [1] * 5000, "text": pa.array(texts).cast(kind), "id": list(range(5000))}), row_group_size=700
    )
    documents, left_out = read("a.parquet", content)
    assert documents == [Document(str(number), text) for number, text in enumerate(texts)]
    assert left_out == {}


def test_columns_may_be_nested_and_names_missing(read):
    table = {
        "meta": [{"id": "x", "tags": ["adult"]}, {"id": None, "tags": None}, None, {"id": "y", "tags": ["tiny"]}],
        "body": [{"text": "one"}, {"text": "two"}, {"text": "three"}, {"text": "four"}],
        "a.b": ["1", "2", "3", "4"],
    }
    config = {"text": "body.text", "id": "meta.id", "drop": {"meta.tags": ["adult"]}}
    documents, left_out = read("p.parquet", stored(table), **config)
    assert documents == [Document("p:2", "two"), Document("p:3", "three"), Document("y", "four")]
    assert left_out == {"dropped_adult": 1}
    assert [d.text for d in read("p.parquet", stored(table), text="a.b")[0]] == ["1", "2", "3", "4"]


def test_nulls_and_long_texts_are_counted(read):
    texts = ["ä" * 50, None, "ä" * 50 + "b", "", "c"]
    documents, left_out = read("a.parquet", stored({"text": texts}), longest=100)
    assert documents == [Document("a:1", "ä" * 50), Document("a:4", ""), Document("a:5", "c")]
    assert left_out == {"empty": 1, "too_long": 1}


def test_bad_bytes_stay_as_lone_surrogates(read):
    """Parquet's writers do not check what they are told is text."""
    texts = pa.array([b"good", b"\xff\xc3", None]).view(pa.string())
    documents, left_out = read("a.parquet", stored(pa.table({"text": texts})))
    assert [document.text for document in documents] == ["good", "\udcff\udcc3"]
    assert left_out == {"empty": 1}


BAD = [b"one", b"t\xffo", None, b"three"]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_names_and_reasons_with_bad_bytes_are_read_too(read, kind: pa.DataType):
    bad = pa.array(BAD, pa.large_binary() if kind == pa.large_string() else pa.binary())
    if pa.types.is_dictionary(kind):
        column = pa.DictionaryArray.from_arrays(
            pa.array([0, 1, None, 2], pa.int32()), pa.array(BAD).view(pa.string()).take([0, 1, 3])
        )
    else:
        column = bad.view(kind)
    table = pa.table({"text": list("abcd"), "id": column, "said": column})
    documents, left_out = read("a.parquet", stored(table), drop={"said": ["three"]})
    assert [(d.id, d.text) for d in documents] == list(zip(["one", "t\udcffo", "a:3"], "abc", strict=True))
    assert left_out == {"dropped_three": 1}


@pytest.mark.parametrize("inside", ["list", "struct", "map"])
def test_reasons_inside_of_others_with_bad_bytes(read, inside: str):
    strings = pa.array(BAD).view(pa.string())
    column, path, dropped = {
        "list": (pa.ListArray.from_arrays([0, 2, 3, 4, 4], strings), "said", "three"),
        "struct": (pa.StructArray.from_arrays([strings], ["by"]), "said.by", "three"),
        "map": (
            pa.MapArray.from_arrays([0, 2, 3, 4, 4], pa.array(list("klmn")), strings),
            "said",
            '["m", null]',
        ),
    }[inside]
    table = pa.table({"text": list("abcd"), "said": column})
    documents, left_out = read("a.parquet", stored(table), drop={path: [dropped]})
    row = {"list": 2, "struct": 3, "map": 1}[inside]
    assert [d.text for d in documents] == [text for i, text in enumerate("abcd") if i != row]
    assert left_out == {f"dropped_{dropped}": 1}


@pytest.mark.parametrize(("choice", "kept"), [("drop", ["one"]), ("replace", ["one", "t\ufffdo"])])
def test_a_name_with_bad_bytes_is_counted_as_a_text_is(read, choice: str, kept: list[str]):
    names = pa.array([b"one", b"t\xffo"]).view(pa.string())
    documents, _ = read("a.parquet", stored(pa.table({"text": ["a", "b"], "id": names})))
    counts: Counter[str] = Counter()
    found = [valid(document, CleanConfig(invalid_utf8=choice), counts) for document in documents]
    assert [document.id for document in found if document is not None] == kept
    assert counts == {"invalid_utf8" if choice == "drop" else "repaired_utf8": 1}


def test_another_schema_is_reported(read):
    content = stored({"content": ["a"], "n": [1]})
    with pytest.raises(UserError, match=r"has no column 'text'; it has: content \(string\), n \(int64\)"):
        read("a.parquet", content)
    with pytest.raises(UserError, match=r"has no column 'tags'") as error:
        read("a.parquet", content, text="content", drop={"tags": ["adult"]})
    assert "`drop`" in error.value.remedy
    with pytest.raises(UserError, match="the column 'n' holds int64, strings were expected"):
        read("a.parquet", content, text="n")
    with pytest.raises(UserError, match="the column 'text' holds list<"):
        read("a.parquet", stored({"text": [["a", "b"]]}))


@pytest.mark.parametrize("damage", ["no Parquet", "empty", "cut off", "in a page"])
def test_a_broken_file_stops_or_ends_there(read, damage: str):
    draw = random.Random(4)
    texts = [draw.randbytes(500).hex() for _ in range(2000)]
    content = stored({"text": texts}, row_group_size=500, compression="zstd", use_dictionary=False)
    middle = len(content) // 2
    content = {
        "no Parquet": b"<html>Not found</html>",
        "empty": b"",
        "cut off": content[:-100],
        "in a page": content[:middle] + b"\xff" * 1000 + content[middle + 1000 :],
    }[damage]
    with pytest.raises(UserError, match=r"a\.parquet is broken after [\d,]+ rows: "):
        read("a.parquet", content)


def test_of_a_file_with_a_broken_page_the_rows_before_can_be_kept(tmp_path: Path):
    texts = [random.Random(n).randbytes(500).hex() for n in range(2000)]
    content = stored({"text": texts}, row_group_size=500, compression="zstd", use_dictionary=False)
    middle = len(content) // 2 + 5000
    path = tmp_path / "a.parquet"
    path.write_bytes(content[:middle] + b"\xff" * 1000 + content[middle + 1000 :])
    with open_stream(path, broken="keep") as stream:
        documents = list(parquet(stream, SourceConfig(), ReadLimits(10_000), Counter()))
        assert stream.broken
    assert [document.text for document in documents] == texts[: len(documents)]
    assert len(documents) >= 1000


def test_parquet_inside_a_compression_is_refused(read):
    with pytest.raises(UserError, match="inside a compression"):
        read("a.parquet.gz", gzip.compress(stored({"text": ["a"]})))


def test_the_place_moves_on_with_the_rows_and_batches_are_small(tmp_path: Path):
    """One row group of 40 MB is not taken as a whole."""
    texts = [chr(97 + n % 26) * 20_000 for n in range(2000)]
    path = tmp_path / "a.parquet"
    path.write_bytes(stored({"text": texts}, use_dictionary=False))
    with open_stream(path) as stream:
        documents = parquet(stream, SourceConfig(), ReadLimits(100_000), Counter())
        places = [stream.position() for _ in documents]
        assert stream.position() == stream.size
    assert places == sorted(places)
    assert len(set(places)) >= 4
