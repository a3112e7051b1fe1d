"""The order of the hashes, against a sort of everything in memory; memory's limit and kills change nothing."""

from __future__ import annotations

import hashlib
import itertools
import random
from pathlib import Path

import pytest

from clp_transfer.errors import UserError
from clp_transfer.prepare import shuffle as module
from clp_transfer.prepare.chunks import ChunkWriter, chunk_paths, iter_texts
from clp_transfer.prepare.shuffle import Sizes, shuffle
from clp_transfer.progress import Progress

SEED = 5


def texts(count: int = 900) -> list[str]:
    draw = random.Random(0)
    made = [f"{i} " + "ä" * draw.randint(1, 60) for i in range(count)]
    return made + draw.choices(made, k=60)


def chunked(folder: Path, documents: list[str], per_chunk: int = 100, names: list[str] | None = None) -> Path:
    writer = ChunkWriter(folder)
    for number, text in enumerate(documents):
        writer.add(names[number] if names else f"d{number}", text)
        if len(writer.texts) == per_chunk:
            writer.flush()
    writer.flush()
    return folder


def naive(documents: list[str], validation: int, train: int | None) -> dict[str, list[str]]:
    ordered = sorted(set(documents), key=lambda text: hashlib.sha256(f"{SEED}\n{text}".encode()).digest())
    parts: dict[str, list[str]] = {"validation": [], "train": [], "beyond": []}
    for text in ordered:
        sizes = {part: sum(len(t.encode()) for t in chosen) for part, chosen in parts.items()}
        part = "validation" if sizes["validation"] < validation else "train"
        parts["beyond" if part == "train" and train is not None and sizes["train"] >= train else part].append(text)
    return parts


def run(tmp_path: Path, documents: list[str], sizes: Sizes, name: str = "out", removed: dict | None = None):
    chunks = tmp_path / f"chunks-{name}"
    if not chunks.exists():
        chunked(chunks, documents)
    total = sum(len(text.encode()) for text in documents)
    state = shuffle(chunks, removed or {}, total, sizes, SEED, tmp_path / name, "test")
    return state, {part: list(iter_texts(tmp_path / name / part)) for part in state.chunks}


@pytest.mark.parametrize("buckets", [1, 7])
@pytest.mark.parametrize("train", [None, 20_000])
def test_against_a_sort_in_memory(tmp_path: Path, monkeypatch, buckets: int, train: int | None) -> None:
    monkeypatch.setattr(module, "BUCKET_BYTES", -(-sum(len(t.encode()) for t in texts()) // buckets))
    monkeypatch.setattr(module, "CHUNK_BYTES", 3_000)
    state, parts = run(tmp_path, texts(), Sizes(5_000, train))
    expected = naive(texts(), 5_000, train)
    assert parts["validation"] == expected["validation"] and parts["train"] == expected["train"]
    assert state.duplicates == 60 and state.documents.get("beyond", 0) == len(expected["beyond"])
    assert len(chunk_paths(tmp_path / "out/train")) > 3
    assert not (tmp_path / "out/buckets").exists()


def test_the_order_of_the_source_does_not_matter_but_the_first_of_equals_stays(tmp_path: Path) -> None:
    documents = texts()
    _, one = run(tmp_path, documents, Sizes(5_000, None), "one")
    _, other = run(tmp_path, random.Random(1).sample(documents, len(documents)), Sizes(5_000, None), "other")
    assert one == other
    places = [int(text.split()[0]) for text in one["train"]]
    assert 0.4 < sum(a < b for a, b in itertools.pairwise(places)) / len(places) < 0.6
    from clp_transfer.prepare.chunks import read_chunk

    names = {
        text: name
        for part in ("train", "validation")
        for path in chunk_paths(tmp_path / "one" / part)
        for ids, found in read_chunk(path)
        for name, text in zip(ids, found, strict=True)
    }
    assert all(names[text] == f"d{documents.index(text)}" for text in documents)


def test_removed_rows_are_gone(tmp_path: Path) -> None:
    documents = [f"text {i}" for i in range(250)]
    _, parts = run(tmp_path, documents, Sizes(300, None), removed={0: [3, 4], 2: {49: "near_duplicate"}})
    assert set(documents) - {text for part in parts.values() for text in part} == {"text 3", "text 4", "text 249"}


def test_progress_counts_bytes_and_goes_on_where_it_was(tmp_path: Path, monkeypatch) -> None:
    bars: list[Progress] = []
    monkeypatch.setattr(module, "Progress", lambda *about: bars.append(Progress(*about)) or bars[-1])
    documents = texts()
    size = sum(len(text.encode()) for text in documents)
    deal, dealt = module._deal, []

    def dying(*arguments) -> None:
        if len(dealt) == 4:
            raise KeyboardInterrupt
        dealt.append(deal(*arguments))

    monkeypatch.setattr(module, "_deal", dying)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, documents, Sizes(5_000, None))
    assert bars[0].start == 0 and 0.3 * size < bars[0].done < 0.6 * size
    monkeypatch.setattr(module, "_deal", deal)
    run(tmp_path, documents, Sizes(5_000, None))
    assert bars[1].start == bars[0].done and bars[1].done == bars[1].total
    assert size < bars[1].total < 1.15 * size  # as Parquet stores them, with their lengths; nearly all is two bytes


@pytest.mark.parametrize("after", [1, 2, 5, 9, 11])
def test_killed_after_any_chunk_it_goes_on(tmp_path: Path, monkeypatch, after: int) -> None:
    monkeypatch.setattr(module, "BUCKET_BYTES", 9_000)
    monkeypatch.setattr(module, "CHUNK_BYTES", 3_000)
    sizes = Sizes(5_000, 30_000)
    whole_state, whole = run(tmp_path, texts(), sizes, "whole")
    flush, written = ChunkWriter.flush, []

    def dying(self: ChunkWriter) -> None:
        if len(written) == after:
            raise KeyboardInterrupt
        written.append(flush(self))

    chunked(tmp_path / "chunks-killed", texts())
    monkeypatch.setattr(ChunkWriter, "flush", dying)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, texts(), sizes, "killed")
    monkeypatch.setattr(ChunkWriter, "flush", flush)
    state, again = run(tmp_path, texts(), sizes, "killed")
    assert again == whole and state == whole_state
    for path in chunk_paths(tmp_path / "whole/train"):
        assert path.read_bytes() == (tmp_path / "killed/train" / path.name).read_bytes()


PATTERN = "^book[0-9]+"


def books() -> tuple[list[str], list[str]]:
    """Ids and texts of 40 books of 1 to 30 chapters, out of order."""
    draw = random.Random(3)
    chapters = [f"book{book}-{part}" for book in range(40) for part in range(draw.randint(1, 30))]
    draw.shuffle(chapters)
    return chapters, [f"{name} " + "ü" * draw.randint(1, 60) for name in chapters]


def by_group(folder: Path) -> list[str]:
    return [text.partition("-")[0] for text in iter_texts(folder)]


def test_groups_are_held_out_whole(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(module, "CHUNK_BYTES", 3_000)
    names, documents = books()
    total = sum(len(text.encode()) for text in documents)
    chunks = chunked(tmp_path / "chunks", documents, names=names)
    state = shuffle(chunks, {}, total, Sizes(total // 5, total // 2), SEED, tmp_path / "out", "test", PATTERN)
    parts = {part: by_group(tmp_path / "out" / part) for part in state.chunks}
    taken = {part: state.bytes[part] for part in ("validation", "train", "beyond")}
    assert sum(taken.values()) == total and all(taken.values())
    expected = sorted(
        {name.partition("-")[0] for name in names}, key=lambda b: hashlib.sha256(f"{SEED}\n{b}".encode()).digest()
    )
    size = {book: sum(len(t.encode()) for t in documents if t.startswith(f"{book}-")) for book in expected}
    bounds = {"validation": total // 5, "train": total // 2}
    for part, limit in bounds.items():
        held: list[str] = []
        while sum(size[book] for book in held) < limit:
            held.append(expected.pop(0))
        assert list(dict.fromkeys(parts[part])) == held  # whole books, in the order of their hashes, the last one too
        assert len(parts[part]) == sum(name.partition("-")[0] in held for name in names)


@pytest.mark.parametrize("after", [1, 2, 3, 7])
def test_groups_after_a_kill(tmp_path: Path, monkeypatch, after: int) -> None:
    monkeypatch.setattr(module, "CHUNK_BYTES", 2_000)
    names, documents = books()
    total = sum(len(text.encode()) for text in documents)
    arguments = (total, Sizes(total // 5, total // 2), SEED)
    chunks = chunked(tmp_path / "chunks", documents, names=names)
    whole = shuffle(chunks, {}, *arguments, tmp_path / "whole", "test", PATTERN)
    flush, written = ChunkWriter.flush, []

    def dying(self: ChunkWriter) -> None:
        if len(written) == after:
            raise KeyboardInterrupt
        written.append(flush(self))

    monkeypatch.setattr(ChunkWriter, "flush", dying)
    with pytest.raises(KeyboardInterrupt):
        shuffle(chunks, {}, *arguments, tmp_path / "killed", "test", PATTERN)
    monkeypatch.setattr(ChunkWriter, "flush", flush)
    assert shuffle(chunks, {}, *arguments, tmp_path / "killed", "test", PATTERN) == whole
    for part in ("validation", "train"):
        assert list(iter_texts(tmp_path / "killed" / part)) == list(iter_texts(tmp_path / "whole" / part))


def test_an_id_without_a_group_is_named(tmp_path: Path) -> None:
    chunks = chunked(tmp_path / "chunks", ["one", "two"], names=["book1-1", "page7"])
    with pytest.raises(UserError, match="page7"):
        shuffle(chunks, {}, 6, Sizes(3, None), SEED, tmp_path / "out", "test", PATTERN)
