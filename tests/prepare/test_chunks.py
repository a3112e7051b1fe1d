from __future__ import annotations

from pathlib import Path

import pytest

from clp_transfer.errors import UserError
from clp_transfer.prepare.chunks import (
    ChunkWriter,
    chunk_path,
    chunk_paths,
    copy_without,
    iter_texts,
    measure,
    read_chunk,
    write_chunk,
)

TEXTS = ["ein Haus", "", "NUL \x00 und 漢字 😀", "Zeile\nZeile\r\n", "x" * 10_000]


def folder_of(root: Path, chunks: list[list[str]]) -> Path:
    writer = ChunkWriter(root)
    for texts in chunks:
        for number, text in enumerate(texts):
            writer.add(f"{number}", text)
        writer.flush()
    return root


def test_what_goes_in_comes_out(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "c", [TEXTS, TEXTS[:2] * 3_000])
    assert list(iter_texts(folder)) == TEXTS + TEXTS[:2] * 3_000
    assert measure(folder) == {"documents": 6_005, "bytes": sum(len(t.encode()) for t in iter_texts(folder))}
    assert [name for ids, _ in read_chunk(chunk_path(folder, 0)) for name in ids] == ["0", "1", "2", "3", "4"]
    write_chunk(tmp_path / "again.parquet", [str(i) for i in range(5)], TEXTS)
    assert (tmp_path / "again.parquet").read_bytes() == chunk_path(folder, 0).read_bytes()


def test_an_empty_writer_writes_nothing(tmp_path: Path) -> None:
    ChunkWriter(tmp_path / "c").flush()
    with pytest.raises(UserError, match="has no texts"):
        chunk_paths(tmp_path / "c")


def test_copies_without_rows(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "c", [TEXTS, ["a", "b"], ["c"]])
    copy_without(folder, {0: [1, 4], 2: {0: "contaminated"}}, tmp_path / "out")
    assert list(iter_texts(tmp_path / "out")) == [TEXTS[0], TEXTS[2], TEXTS[3], "a", "b"]
    assert len(chunk_paths(tmp_path / "out")) == 3
    assert chunk_path(tmp_path / "out", 1).samefile(chunk_path(folder, 1))


def test_copies_where_files_cannot_have_two_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no links here")

    folder = folder_of(tmp_path / "c", [TEXTS])
    monkeypatch.setattr("os.link", refuse)
    copy_without(folder, {}, tmp_path / "out")
    assert chunk_path(tmp_path / "out", 0).read_bytes() == chunk_path(folder, 0).read_bytes()
    assert not list((tmp_path / "out").glob("*.tmp"))
