"""Contaminated texts, against sets of tuples of words."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from clp_transfer.errors import UserError
from clp_transfer.prepare.clean import removals
from clp_transfer.prepare.clean.decontaminate import Index, build, matches, read_evaluation_texts
from clp_transfer.prepare.clean.ngrams import BATCH, word_hashes
from clp_transfer.prepare.job import CleanConfig, ClusterConfig

from .conftest import Corpus, sentence_words

Run = tuple[str, ...]


def words_of(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def runs_of(words: list[str], length: int) -> set[Run]:
    return {tuple(words[i : i + length]) for i in range(len(words) - length + 1)}


def naive(evaluation: list[str], texts: list[str], ngram: int) -> list[bool]:
    index: set[Run] = set()
    for text in evaluation:
        words = words_of(text)
        if len(words) >= ngram:
            index |= runs_of(words, ngram)
        elif len(words) >= 8:
            index.add(tuple(words))
    lengths = {len(run) for run in index}
    return [any(runs_of(words_of(text), length) & index for length in lengths) for text in texts]


def random_texts(rng: random.Random, count: int, alphabet: list[str]) -> list[str]:
    marks = [" ", " ", ", ", "\n", " — ", "-", "… "]
    return ["".join(rng.choice(alphabet) + rng.choice(marks) for _ in range(rng.randrange(40))) for _ in range(count)]


@pytest.mark.parametrize("ngram", [3, 9, 13])
@pytest.mark.parametrize("seed", range(4))
def test_matches_naive_sets(ngram: int, seed: int) -> None:
    """Few words, so that runs meet often; cases, ß, ligatures, digits, underscores and other scripts among them."""
    rng = random.Random(seed)
    alphabet = ["Straße", "STRASSE", "ﬁx", "fix", "İ", "ǆ", "_a", "3", "日本", "٣", "𝒳", "é"][: 3 if ngram > 3 else 12]
    evaluation, texts = random_texts(rng, 8, alphabet), random_texts(rng, 400, alphabet)
    expected = naive(evaluation, texts, ngram)
    assert matches(build(iter(evaluation), ngram), texts).tolist() == expected
    assert 0 < sum(expected) < len(texts)


def test_long_texts_are_hashed_in_pieces() -> None:
    """A run that lies where the text is cut counts like any other; the texts around it keep their numbers."""
    rng = random.Random(3)
    words = sentence_words(rng, 60_000)
    text = " ".join(words)
    assert len(text) > 2 * BATCH
    spots = [len(words_of(text[: BATCH * k])) for k in (1, 2)]
    for spot in spots:
        index = build([" ".join(words[spot - 6 : spot + 7])], 13)
        assert matches(index, ["kurz", text, "noch ein Text"]).tolist() == [False, True, False]
    assert matches(
        build([text], 13), [" ".join(words[s - 6 : s + 7]) for s in spots] + [" ".join(words[:12])]
    ).tolist() == [
        True,
        True,
        False,
    ]


def test_every_word_has_its_own_hash() -> None:
    rng = random.Random(11)
    words = {"".join(rng.choices("abcdefgäöüß0123", k=rng.randrange(1, 9))) for _ in range(200_000)}
    words = {word.casefold() for word in words}
    hashes = np.concatenate([h for h, _ in word_hashes(words)])
    assert len(np.unique(hashes)) == len(hashes) == len(words)


def test_one_word_longer_than_a_batch() -> None:
    (hashes, owner), *rest = word_hashes(["x" * (BATCH * 2 + 5)])
    assert len(hashes) == 3 and owner.tolist() == [0, 0, 0] and not rest


def test_nothing_to_look_for() -> None:
    for evaluation in ([], ["", "nur sieben Wörter sind es in diesem"]):
        assert matches(build(evaluation, 13), ["nur sieben Wörter sind es in diesem", ""]).tolist() == [False, False]
    assert matches(build(["a b c d e f g h"], 13), []).tolist() == []


def test_hashes_are_the_same_in_every_process(tmp_path: Path) -> None:
    text = "Der Bär aß die süßen Früchte des Waldes und legte sich dann zum Schlafen nieder."
    code = (
        "import sys; from pathlib import Path; from clp_transfer.prepare.clean.decontaminate import build; "
        "build([sys.argv[1]], 5).save(Path(sys.argv[2]))"
    )
    subprocess.run([sys.executable, "-c", code, text, str(tmp_path)], check=True, env={"PYTHONHASHSEED": "77"})
    saved, here = Index.load(tmp_path), build([text], 5)
    assert (saved.hashes == here.hashes).all() and (saved.bits == here.bits).all() and saved.lengths == here.lengths


def write_lines(path: Path, *rows: object) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def test_reads_all_strings_from_json_lines(tmp_path: Path) -> None:
    long = "eins zwei drei vier fünf sechs sieben acht {}"
    write_lines(tmp_path / "b.jsonl", {"question": long.format("b"), "label": 3, "short": "ja", "none": None})
    write_lines(tmp_path / "a.jsonl", {"choices": {"text": [long.format("a"), "nein"]}}, [long.format("list")])
    found = list(read_evaluation_texts([str(tmp_path / "*.jsonl"), str(tmp_path / "b.jsonl")]))
    b = [long.format("b"), "ja"]
    assert found == [long.format("a"), "nein", long.format("list"), *b, *b]


@pytest.mark.parametrize(
    ("text", "ngram"), [("a-b-c/d e_f(g)h,i.j", 13), ("nur fünf Wörter sind es", 5), ("日本 " * 7, 3)]
)
def test_texts_of_files_are_counted_in_the_words_that_are_looked_for(tmp_path: Path, text: str, ngram: int) -> None:
    """Split at spaces, each has fewer than eight words; as a text of the validation split it is found."""
    evaluation = list(read_evaluation_texts([write_lines(tmp_path / "a.jsonl", {"text": text, "label": "ja"})]))
    texts = [f"Vorher {text} nachher", "etwas anderes, ja"]
    assert len(text.split()) < 8
    assert matches(build(evaluation, ngram), texts).tolist() == naive([text], texts, ngram) == [True, False]


@pytest.mark.parametrize("content", [b"{not json\n", b'{"a": "\xff"}\n'])
def test_names_the_broken_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.jsonl").write_bytes(b'{"a": "b"}\n\n' + content)
    with pytest.raises(UserError, match=r"x\.jsonl, line 3"):
        list(read_evaluation_texts([str(tmp_path / "x.jsonl")]))


def test_names_files_that_are_not_there(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("a,b")
    with pytest.raises(UserError, match=r"no file of evaluation texts .*none\*"):
        list(read_evaluation_texts([str(tmp_path / "none*.jsonl")]))
    with pytest.raises(UserError, match=r"x\.csv is not a"):
        list(read_evaluation_texts([str(tmp_path / "x.csv")]))


@pytest.mark.parametrize("workers", [1, 2])
def test_marks_rows_of_chunks(corpus: Corpus, tmp_path: Path, workers: int) -> None:
    evaluation = [" ".join(corpus.texts[0][2].split()[20:40]), "Zu: " + " ".join(corpus.texts[2][4].split()[5:14])]
    cluster = ClusterConfig(workers=workers)
    found = removals(corpus.chunks, CleanConfig(), "de", tmp_path / "work", cluster, iter(evaluation))
    # The second has ten words, of which the text has nine: it is not in there as a whole.
    assert dict(found.rows) == {0: {2: "contaminated"}, 1: {}, 2: {}}
    assert found.counts == {"contaminated": 1}
    assert found.examples == {"contaminated": [{"id": "0-2", "text": corpus.texts[0][2][:200]}]}


def test_finished_chunks_are_not_read_again(corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from clp_transfer.prepare import clean

    marked: list[str] = []
    mark_chunk = clean.mark_chunk

    def counting(chunk: Path, *rest: Path) -> None:
        if len(marked) == 2:
            marked.append("killed")
            raise KeyboardInterrupt
        marked.append(chunk.stem)
        mark_chunk(chunk, *rest)

    monkeypatch.setattr(clean, "mark_chunk", counting)

    def run(text: str) -> clean.Removals:
        return removals(corpus.chunks, CleanConfig(), "de", tmp_path / "work", ClusterConfig(workers=1), [text])

    with pytest.raises(KeyboardInterrupt):
        run(corpus.texts[2][1])
    assert dict(run(corpus.texts[2][1]).rows) == {0: {}, 1: {}, 2: {1: "contaminated"}}
    assert marked == ["000000", "000001", "killed", "000002"]
    assert run(corpus.texts[1][1]).rows[1] == {1: "contaminated"}  # another question: all anew
    assert marked[4:] == ["000000", "000001", "000002"]
