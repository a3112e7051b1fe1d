"""Files into chunks: in order, cut at the right text, and the same however often the run is killed."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path
from typing import ClassVar

import pytest

from clp_transfer.errors import UserError
from clp_transfer.prepare import read as module
from clp_transfer.prepare.chunks import ChunkWriter, chunk_paths, iter_texts
from clp_transfer.prepare.job import CleanConfig, SourceConfig
from clp_transfer.prepare.read import Part, Reading
from clp_transfer.prepare.sources import locate
from clp_transfer.progress import Progress


def texts(count: int = 400) -> list[str]:
    draw = random.Random(3)
    return [f"{i} " + "ö" * draw.randint(1, 60) for i in range(count)]


def lines(documents: list[str]) -> bytes:
    return "".join(json.dumps({"id": f"d{i}", "text": t}) + "\n" for i, t in enumerate(documents)).encode()


@pytest.fixture
def source(tmp_path: Path) -> SourceConfig:
    """Three files: plain, compressed, and one with what must be left out."""
    documents = texts()
    (tmp_path / "in").mkdir()
    (tmp_path / "in/part_1.jsonl").write_bytes(lines(documents[:150]))
    (tmp_path / "in/part_2.jsonl.gz").write_bytes(gzip.compress(lines(documents[150:300])))
    bad = b'{"id": "x", "text": "B\xe4ume"}\n{"id": "y", "text": " "}\n{"id": "z", "text": "\\ud800"}\n{"other": 1}\n'
    (tmp_path / "in/part_10.jsonl").write_bytes(lines(documents[300:350]) + bad + lines(documents[350:]))
    return SourceConfig(files=[str(tmp_path / "in/part_*.jsonl*")])


def reading(tmp_path: Path, source: SourceConfig, parts: list[Part], name: str = "out", **options) -> Reading:
    files = locate("files", source, tmp_path / "cache")
    clean = options.pop("clean", CleanConfig())
    return Reading("test", files, {"files": source}, clean, parts, tmp_path / name, **options)


def test_everything_in_order_and_what_is_left_out_is_counted(tmp_path: Path, source: SourceConfig) -> None:
    state = reading(tmp_path, source, [Part("train", None)]).run()
    assert list(iter_texts(tmp_path / "out/train")) == texts()
    assert state.left_out == {"invalid_utf8": 2, "empty": 1, "without_field": 1}
    assert state.documents == {"train": 400} and state.bytes == {"train": sum(len(t.encode()) for t in texts())}


def test_bad_bytes_can_be_replaced(tmp_path: Path, source: SourceConfig) -> None:
    clean = CleanConfig(invalid_utf8="replace")
    state = reading(tmp_path, source, [Part("train", None)], clean=clean).run()
    found = list(iter_texts(tmp_path / "out/train"))
    assert found[350:352] == ["B\ufffdume", "\ufffd"] and state.left_out["repaired_utf8"] == 2


def test_the_cut_is_the_papers(tmp_path: Path, source: SourceConfig) -> None:
    """Documents until the bytes reach the size, the one that reaches it included; then on until a tenth more."""
    reading(tmp_path, source, [Part("train", 10_000), Part("validation", 1_000)]).run()
    expected: dict[str, list[str]] = {"train": [], "validation": []}
    stream = iter(texts())
    for part, size in (("train", 10_000), ("validation", 1_000)):
        total = 0
        while total < size:
            text = next(stream)
            expected[part].append(text)
            total += len(text.encode())
    assert {part: list(iter_texts(tmp_path / "out" / part)) for part in expected} == expected


def test_long_and_repeated_texts_and_those_of_others(tmp_path: Path, source: SourceConfig) -> None:
    (tmp_path / "in/part_11.jsonl").write_bytes(lines(texts()[:20]))
    options = {"clean": CleanConfig(longest=100), "distinct": True, "keep": lambda d: not d.text.startswith("7 ")}
    state = reading(tmp_path, source, [Part("train", None)], **options).run()
    long = [text for text in texts() if len(text.encode()) > 100]
    expected = [text for text in texts() if len(text.encode()) <= 100 and not text.startswith("7 ")]
    assert list(iter_texts(tmp_path / "out/train")) == expected
    again = [text for text in texts()[:20] if text in expected]
    assert state.left_out["too_long"] == len(long) + sum(text in long for text in texts()[:20])
    assert state.left_out["duplicate"] == len(again)


@pytest.mark.parametrize("distinct", [False, True])
def test_killed_anywhere_it_goes_on(tmp_path: Path, source: SourceConfig, monkeypatch, distinct: bool) -> None:
    (tmp_path / "in/part_12.jsonl").write_bytes(lines(texts()[100:130]))
    monkeypatch.setattr(module, "CHUNK_BYTES", 1_500)
    parts = [Part("train", 20_000), Part("validation", 6_000)]
    whole = reading(tmp_path, source, parts, "whole", distinct=distinct).run()
    flush, runs = ChunkWriter.flush, 0
    while runs < 30:
        budget = [random.Random(runs).randint(1, 3)]

        def dying(self: ChunkWriter, budget: list[int] = budget) -> None:
            flush(self)
            budget[0] -= 1
            if budget[0] < 0:  # after the chunk, before the state that names it
                raise KeyboardInterrupt

        monkeypatch.setattr(ChunkWriter, "flush", dying)
        runs += 1
        try:
            state = reading(tmp_path, source, parts, "killed", distinct=distinct).run()
            break
        except KeyboardInterrupt:
            continue
    assert 5 < runs < 30 and state == whole
    for part in ("train", "validation"):
        ours, theirs = (chunk_paths(tmp_path / name / part) for name in ("killed", "whole"))
        assert [p.read_bytes() for p in ours] == [p.read_bytes() for p in theirs]


def test_a_finished_reading_reads_no_file_again(tmp_path: Path, source: SourceConfig) -> None:
    first = reading(tmp_path, source, [Part("train", None)])
    state = first.run()
    again = reading(tmp_path, source, [Part("train", None)])
    for path in (tmp_path / "in").iterdir():
        path.unlink()
    assert again.run() == state


class Bar(Progress):
    """Remembers what it was told."""

    made: ClassVar[list[Bar]]

    def __init__(self, what: str, total: int | None, done: int = 0) -> None:
        super().__init__(what, total, done)
        self.heard: list[int] = []
        self.made.append(self)

    def to(self, done: int) -> None:
        super().to(done)
        self.heard.append(done)


@pytest.mark.parametrize("sizes", [(9_000, 3_000), (None,)])
def test_progress_is_of_the_text_asked_for_or_else_of_the_files(tmp_path, source, monkeypatch, sizes) -> None:
    monkeypatch.setattr(Bar, "made", [], raising=False)
    monkeypatch.setattr(module, "Progress", Bar)
    run = reading(tmp_path, source, [Part(f"part{i}", size) for i, size in enumerate(sizes)])
    state = run.run()
    (bar,) = Bar.made
    assert bar.heard == sorted(bar.heard) and bar.start == 0
    if sizes == (None,):
        assert bar.total == bar.done == sum(path.stat().st_size for path in (tmp_path / "in").iterdir())
    else:
        assert bar.total == 12_000 and 0 < bar.done <= sum(state.bytes.values())
        state.finished, state.bytes = False, {"part0": 5_000}
        run.run()
        assert Bar.made[-1].start == 5_000  # it goes on from there


def test_files_that_were_opened_are_counted_and_no_others(tmp_path: Path, source: SourceConfig) -> None:
    for name, size, opened in (("one", 2_000, 1), ("two", 12_000, 2), ("all", None, 3)):
        assert reading(tmp_path, source, [Part("train", size)], name).run().opened == opened


def test_a_truncated_file_stops_or_is_kept(tmp_path: Path, source: SourceConfig) -> None:
    path = tmp_path / "in/part_2.jsonl.gz"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(UserError, match=r"part_2\.jsonl\.gz"):
        reading(tmp_path, source, [Part("train", None)]).run()
    state = reading(tmp_path, source, [Part("train", None)], clean=CleanConfig(broken="keep"), name="kept").run()
    found = list(iter_texts(tmp_path / "kept/train"))
    assert state.left_out["broken_files"] == 1 and found[:150] == texts()[:150] and found[-100:] == texts()[-100:]
    assert 250 <= len(found) < 400
