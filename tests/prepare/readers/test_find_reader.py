from __future__ import annotations

import pytest

from clp_transfer.errors import UserError
from clp_transfer.prepare.job import SourceConfig
from clp_transfer.prepare.readers import READERS, find_reader


@pytest.mark.parametrize(
    ("name", "reader"),
    [
        ("a.jsonl", "jsonl"),
        ("folder.d/a.ndjson.zst", "jsonl"),
        ("https://host/a.json.gz?download=true", "jsonl"),
        ("pkg-1.0-py3-none-any.whl!data/a.txt.xz", "text"),
        ("a.JSONL.GZ", "jsonl"),
        ("a.jsonl.tar.gz", "jsonl"),
        ("0000.parquet", "parquet"),
    ],
)
def test_a_files_name_tells_its_reader(name: str, reader: str):
    assert find_reader(SourceConfig(), name) is READERS[reader]


def test_the_config_comes_first():
    assert find_reader(SourceConfig(reader="lines"), "a.jsonl") is READERS["lines"]


@pytest.mark.parametrize("name", ["a.csv", "a.tar.gz", "a", "jsonl", ""])
def test_an_unknown_name_is_reported(name: str):
    with pytest.raises(UserError, match="no reader goes with this name") as error:
        find_reader(SourceConfig(), name)
    assert "jsonl, parquet, text, lines, wiktionary, wikipedia_leads" in error.value.remedy


def test_an_unknown_reader_names_the_known_ones():
    with pytest.raises(UserError, match="unknown reader 'wikitionary'") as error:
        find_reader(SourceConfig(reader="wikitionary"), "a.jsonl")
    assert "wiktionary, wikipedia_leads" in error.value.remedy


@pytest.mark.parametrize("name", ["a.txt", "b.txt.gz"])
def test_a_file_without_fields_has_nothing_to_drop_by(name: str):
    config = SourceConfig(drop={"kind": ["a"]})
    with pytest.raises(UserError, match=f"by kind, and the reader text, which goes with {name}, knows no fields"):
        find_reader(config, name)
    for known in ("jsonl", "parquet"):
        assert find_reader(config, f"a.{known}") is READERS[known]
