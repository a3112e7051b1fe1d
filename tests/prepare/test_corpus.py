"""A corpus from files to splits, each against what a few lines in memory make of the same files."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import pytest

from clp_transfer.errors import UserError
from clp_transfer.prepare.chunks import iter_texts
from clp_transfer.prepare.corpus import Corpus, split_sizes
from clp_transfer.prepare.job import CleanConfig, ClusterConfig, CorpusConfig, SourceConfig
from clp_transfer.prepare.sources import locate

WORDS = re.findall(r"\w+", "der Fluss über die Brücke große Straße Häuser Stadt mit vielen Bäumen und Wegen nach Nord")


def texts(count: int, seed: int) -> list[str]:
    draw = random.Random(seed)
    return [" ".join([*draw.choices(WORDS, k=draw.randint(15, 40)), str(seed), str(i)]) for i in range(count)]


def write(path: Path, documents: list[str]) -> SourceConfig:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in documents), encoding="utf-8")
    return SourceConfig(files=[str(path)])


def make(tmp_path: Path, config: CorpusConfig, name: str = "de") -> tuple[dict[str, Any], dict[str, list[str]]]:
    files = [file for key, source in config.sources.items() for file in locate(key, source, tmp_path / "cache")]
    held_out = locate("validation", config.validation, tmp_path / "cache") if config.validation else []
    out = tmp_path / name
    corpus = Corpus(name, config, files, held_out, 1, out, tmp_path / f"work-{name}", ClusterConfig(workers=1))
    numbers = corpus.make()
    return numbers, {part: list(iter_texts(out / part)) for part in ("train", "validation")}


def size(documents: list[str]) -> int:
    return sum(len(text.encode()) for text in documents)


def test_in_order(tmp_path: Path) -> None:
    documents = texts(300, 1)
    sources = {"a": write(tmp_path / "a.jsonl", documents[:200]), "b": write(tmp_path / "b.jsonl", documents[200:])}
    config = CorpusConfig(sources, split="in_order", subsample_size_mb=0.02)
    numbers, parts = make(tmp_path, config)
    assert split_sizes(config).train == 20_972 and split_sizes(config).validation == 2_097
    joined = parts["train"] + parts["validation"]
    assert joined == documents[: len(joined)]
    assert size(parts["train"][:-1]) < 20_972 <= size(parts["train"])
    assert size(parts["validation"][:-1]) < 2_097 <= size(parts["validation"])
    assert numbers["train"] == {"documents": len(parts["train"]), "bytes": size(parts["train"])}


def test_groups_share_no_text(tmp_path: Path) -> None:
    """A text that two books have is kept once, in the book that came first; no book is in both splits."""
    documents = [(f"b{i % 12}-{i}", text) for i, text in enumerate(texts(240, 1))]
    documents += [("b11-900", documents[0][1]), ("b3-901", documents[5][1])]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"id": name, "text": text}) + "\n" for name, text in documents))
    sources = {"a": SourceConfig(files=[str(path)])}
    numbers, parts = make(tmp_path, CorpusConfig(sources, validation_bytes=9_000, group="^b[0-9]+"))
    book = {text: name.partition("-")[0] for name, text in reversed(documents)}
    books = {part: {book[text] for text in found} for part, found in parts.items()}
    assert numbers["left_out"] == {"duplicate": 2}
    assert not books["train"] & books["validation"] and len(books["train"] | books["validation"]) == 12
    assert sorted(parts["train"] + parts["validation"]) == sorted(texts(240, 1))


def test_shuffled_with_validation_of_its_own(tmp_path: Path) -> None:
    train, validation = texts(100, 1), texts(30, 2)
    config = CorpusConfig({"a": write(tmp_path / "a.jsonl", train)}, validation=write(tmp_path / "v.jsonl", validation))
    _, parts = make(tmp_path, config)
    assert parts["validation"] == validation
    assert parts["train"] != train and sorted(parts["train"]) == sorted(train)


@pytest.mark.parametrize("split", ["shuffled", "in_order"])
def test_evaluation_texts_leave_the_train_split(tmp_path: Path, split: str) -> None:
    documents = texts(200, 1)
    held_out, tests = texts(5, 2), texts(5, 3)
    leaked = [f"Vorher {held_out[0]} nachher", "x y z " + " ".join(tests[1].split()[:14])]
    (tmp_path / "test.jsonl").write_text(json.dumps({"text": tests[1], "label": 1}) + "\n")
    config = CorpusConfig(
        {"a": write(tmp_path / "a.jsonl", documents[:100] + leaked + documents[100:])},
        split=split,
        validation=write(tmp_path / "v.jsonl", held_out),
        clean=CleanConfig(decontaminate=["validation", str(tmp_path / "test.jsonl")]),
    )
    numbers, parts = make(tmp_path, config)
    assert numbers["left_out"]["contaminated"] == 2 and len(numbers["examples"]["contaminated"]) == 2
    assert sorted(parts["train"]) == sorted(documents) and parts["validation"] == held_out


@pytest.mark.parametrize("split", ["in_order", "shuffled"])
def test_in_order_cleans_train_alone_and_shuffled_what_both_are_cut_from(tmp_path: Path, split: str) -> None:
    """In order, the splits are cut first: train then falls short of its size, and validation stays as it came."""
    pytest.importorskip("datatrove")
    documents = texts(60, 1)
    twice = [" ".join(texts(12, seed)) for seed in (7, 8)]
    end = [*documents[30:], twice[1], twice[1] + " Ende"]
    train = [twice[0], *documents[:30], twice[0] + " Ende"]
    config = CorpusConfig(
        {"a": write(tmp_path / "a.jsonl", train + end)},
        split=split,
        train_bytes=size(train) if split == "in_order" else None,
        validation_bytes=size(end) if split == "in_order" else 2_000,
        clean=CleanConfig(near=True),
    )
    numbers, parts = make(tmp_path, config)
    if split == "in_order":
        assert parts == {"train": train[:-1], "validation": end}
        assert numbers["left_out"]["near_duplicate"] == 1 and numbers["train"]["bytes"] < size(train)
    else:
        assert sorted(parts["train"] + parts["validation"]) == sorted(train[:-1] + end[:-1])
        assert numbers["left_out"]["near_duplicate"] == 2


@pytest.mark.parametrize("split", ["in_order", "shuffled"])
def test_a_text_that_leaves_for_two_reasons_is_counted_once(tmp_path: Path, split: str) -> None:
    pytest.importorskip("datatrove")
    documents, held_out = texts(60, 1), texts(5, 2)
    quoting = f"{' '.join(texts(12, 7))} {held_out[0]}"
    train = [quoting, *documents, quoting + " Ende"]
    config = CorpusConfig(
        {"a": write(tmp_path / "a.jsonl", train)},
        split=split,
        validation=write(tmp_path / "v.jsonl", held_out),
        clean=CleanConfig(near=True, decontaminate=["validation"]),
    )
    numbers, parts = make(tmp_path, config)
    assert sorted(parts["train"]) == sorted(documents)
    assert numbers["left_out"] == {"near_duplicate": 1, "contaminated": 1}
    assert numbers["train"]["documents"] + sum(numbers["left_out"].values()) == len(train)
    shown = {(found["id"], found["text"]) for some in numbers["examples"].values() for found in some}
    assert {reason: len(some) for reason, some in numbers["examples"].items()} == numbers["left_out"]
    assert len(shown) == 2


def test_near_duplicates_leave(tmp_path: Path) -> None:
    documents = texts(120, 1)
    long = " ".join(texts(12, 7))
    config = CorpusConfig(
        {"a": write(tmp_path / "a.jsonl", [*documents[:60], long, *documents[60:], long + " Ende"])},
        split="in_order",
        train_bytes=10**9,
        validation=write(tmp_path / "v.jsonl", texts(5, 2)),
        clean=CleanConfig(near=True),
    )
    numbers, parts = make(tmp_path, config)
    assert numbers["left_out"]["near_duplicate"] == 1
    assert sum(text.startswith(long) for text in parts["train"]) == 1 and len(parts["train"]) == 121


def test_what_is_too_small(tmp_path: Path) -> None:
    documents = texts(20, 1)
    source = {"a": write(tmp_path / "a.jsonl", documents)}
    with pytest.raises(UserError, match=f"20 documents of {size(documents)} bytes.*validation_bytes=100000"):
        make(tmp_path, CorpusConfig(source, validation_bytes=100_000), "one")
    with pytest.raises(UserError, match="validation_bytes=0"):
        make(tmp_path, CorpusConfig(source, validation_bytes=0), "two")
    with pytest.raises(UserError, match="none left for validation"):
        make(tmp_path, CorpusConfig(source, split="in_order", train_bytes=10**6), "three")
    with pytest.raises(UserError, match="corpus four is empty"):
        make(tmp_path, CorpusConfig({"b": write(tmp_path / "b.jsonl", ["", " "])}), "four")
