"""Near-duplicates, found by datatrove's real local executor, against the exact similarity of all pairs."""

from __future__ import annotations

import re
from itertools import combinations
from pathlib import Path

import pytest

from clp_transfer.prepare.chunks import chunk_path, read_chunk
from clp_transfer.prepare.clean import removals
from clp_transfer.prepare.job import CleanConfig, ClusterConfig

from .conftest import Corpus, sentence_words, write_corpus

pytest.importorskip("datatrove")
HERE = ClusterConfig(workers=1)


def shingles(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.casefold())
    return {tuple(words[i : i + 5]) for i in range(len(words) - 4)}


def similarity(one: str, other: str) -> float:
    return len(shingles(one) & shingles(other)) / len(shingles(one) | shingles(other))


def test_finds_what_is_alike_and_keeps_the_first(corpus: Corpus, tmp_path: Path) -> None:
    found = removals(corpus.chunks, CleanConfig(near=True), "de", tmp_path / "work", HERE, None)
    places = [(chunk, row) for chunk, texts in enumerate(corpus.texts) for row in range(len(texts))]
    alike = {
        later
        for first, later in combinations(places, 2)
        if similarity(corpus.texts[first[0]][first[1]], corpus.texts[later[0]][later[1]]) > 0.8
    }
    assert alike == set(corpus.copies)
    assert {(c, r) for c, rows in found.rows.items() for r in rows} == alike
    assert {reason for rows in found.rows.values() for reason in rows.values()} == {"near_duplicate"}
    assert found.counts == {"near_duplicate": 5}


def test_examples_name_the_text_that_stays(corpus: Corpus, tmp_path: Path) -> None:
    found = removals(corpus.chunks, CleanConfig(near=True), "de", tmp_path / "work", HERE, None)
    pairs = {example["id"]: example["kept"]["id"] for example in found.examples["near_duplicate"]}
    assert pairs == {f"{c}-{r}": f"{kc}-{kr}" for (c, r), (kc, kr) in corpus.copies.items()}
    example = found.examples["near_duplicate"][0]
    assert example["text"] == corpus.texts[0][9][:200]
    assert example["kept"]["text"] == corpus.texts[0][3][:200]


def test_two_runs_agree_whatever_the_number_of_processes(corpus: Corpus, tmp_path: Path) -> None:
    config = CleanConfig(near=True)
    one = removals(corpus.chunks, config, "de", tmp_path / "one", HERE, None)
    two = removals(corpus.chunks, config, "de", tmp_path / "two", ClusterConfig(workers=2), None)
    assert dict(one.rows) == dict(two.rows)
    assert (one.counts, one.examples) == (two.counts, two.examples)


def test_says_nothing(corpus: Corpus, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    removals(corpus.chunks, CleanConfig(near=True), "de", tmp_path / "work", HERE, None)
    assert capfd.readouterr() == ("", "")
    assert "Processing done" in (tmp_path / "work/datatrove/near-clusters/logs/task_00000.log").read_text()


def test_a_killed_run_goes_on(corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from clp_transfer.prepare.clean import near

    config = CleanConfig(near=True)
    expected = removals(corpus.chunks, config, "de", tmp_path / "whole", HERE, None)
    signed: list[str] = []
    get_signature = near.Signatures.get_signature

    def dies(self: object, shingles: object) -> object:
        signed.append("")
        if len(signed) == 30:  # in the last chunk
            raise KeyboardInterrupt
        return get_signature(self, shingles)

    monkeypatch.setattr(near.Signatures, "get_signature", dies)
    with pytest.raises(KeyboardInterrupt):
        removals(corpus.chunks, config, "de", tmp_path / "killed", HERE, None)
    found = removals(corpus.chunks, config, "de", tmp_path / "killed", HERE, None)
    assert len(signed) == 30 + 12  # the two finished chunks are not signed again
    assert dict(found.rows) == dict(expected.rows)
    removals(corpus.chunks, config, "de", tmp_path / "killed", HERE, None)
    assert len(signed) == 30 + 12


def test_another_corpus_in_the_same_place_begins_anew(corpus: Corpus, tmp_path: Path) -> None:
    config = CleanConfig(near=True)
    removals(corpus.chunks, config, "de", tmp_path / "work", HERE, None)
    write_corpus(corpus.chunks, [[*corpus.texts[0], corpus.texts[0][0]], *corpus.texts[1:]])
    found = removals(corpus.chunks, config, "de", tmp_path / "work", HERE, None)
    assert found.rows[0] == {9: "near_duplicate", 12: "near_duplicate"}


def test_texts_without_runs_of_words_stay(tmp_path: Path) -> None:
    texts = [["Ja.", "Ja.", "!!!", "nur vier Wörter hier", "nur vier Wörter hier"]]
    chunks = write_corpus(tmp_path / "train", texts)
    found = removals(chunks, CleanConfig(near=True), "de", tmp_path / "work", HERE, None)
    assert dict(found.rows) == {0: {}} and found.counts == {} and found.examples == {}


def test_what_is_contaminated_is_not_compared(corpus: Corpus, tmp_path: Path) -> None:
    """The first of a cluster leaves for another reason: the next one stays in its place."""
    evaluation = [corpus.texts[0][5]]
    found = removals(corpus.chunks, CleanConfig(near=True), "de", tmp_path / "work", HERE, iter(evaluation))
    assert found.rows[0] == {5: "contaminated", 9: "near_duplicate"}
    assert found.rows[1][2] == found.rows[2][7] == "contaminated"
    assert found.counts == {"contaminated": 3, "near_duplicate": 3}


def test_long_texts_are_signed_in_parts(tmp_path: Path) -> None:
    import random

    words = sentence_words(random.Random(1), 30_000)
    chunks = write_corpus(tmp_path / "train", [[" ".join(words)], [" ".join([*words[:-1], "anders"])]])
    found = removals(chunks, CleanConfig(near=True), "de", tmp_path / "work", HERE, None)
    assert dict(found.rows) == {0: {}, 1: {0: "near_duplicate"}}
    assert len(next(read_chunk(chunk_path(chunks, 1)))[1][0]) > 1 << 18
