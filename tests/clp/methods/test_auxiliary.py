"""wechsel and focus: rows against float64 computations from the vectors; every mistake in the files is named."""

from __future__ import annotations

import gzip
import random
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from clp_transfer.clp import methods
from clp_transfer.clp.job import TransferJob
from clp_transfer.clp.methods import focus
from clp_transfer.clp.methods.problem import Problem, Side
from clp_transfer.clp.methods.words import token_vectors
from clp_transfer.clp.transfer import solve
from clp_transfer.clp.vocabulary.keys import Key
from clp_transfer.errors import UserError
from clp_transfer.files import sha256_file

Make = Callable[..., Problem]
DIM = 12
FILES = ("vectors", "source_vectors", "dictionary")
ENGLISH = ["house", "tree", "water", "city", "dog", "green", "street", "big"]
GERMAN = ["Haus", "Baum", "Wasser", "Stadt", "Hund", "grün", "Straße", "groß"]
NAMES = [f"Name{letter}" for letter in "abcdefghijklmnopqrst"]


def spelled(words: list[str]) -> Callable[[Side], Side]:
    return lambda side: replace(side, keys=[Key(word.encode(), True) for word in words])


def save_text(path: Path, vectors: dict[str, np.ndarray]) -> str:
    lines = [f"{len(vectors)} {DIM}", *(f"{word} " + " ".join(map(str, v)) for word, v in vectors.items())]
    data = ("\n".join(lines) + "\n").encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return str(path)


@pytest.fixture
def world_of_words(make: Make, tmp_path: Path) -> tuple[Problem, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """English vectors are the German ones turned; names are the overlap, German words are wanted."""
    draw = np.random.default_rng(0)
    german = {word: draw.normal(size=DIM).round(4) for word in GERMAN + NAMES}
    turn = np.linalg.qr(draw.normal(size=(DIM, DIM)))[0]
    english = {e: german[g] @ turn for e, g in zip(ENGLISH + NAMES, GERMAN + NAMES, strict=True)}
    english = {word: v + 0.01 * draw.normal(size=DIM) for word, v in english.items()}
    dictionary = tmp_path / "dictionary.txt"
    pairs = zip(ENGLISH + NAMES, GERMAN + NAMES, strict=True)
    dictionary.write_text("\n".join(f"{e.upper() if i == 0 else e}\t{g}" for i, (e, g) in enumerate(pairs)) + "\n\n")
    problem = make(
        overlap=len(NAMES),
        missing=len(GERMAN) + 1,
        vectors=save_text(tmp_path / "de.vec.gz", german),
        source_vectors=save_text(tmp_path / "en.vec", english),
        dictionary=str(dictionary),
        top_k=4,
    )
    known, wanted = spelled(NAMES)(problem.known), spelled([*GERMAN, "xyz"])(problem.wanted)
    return replace(problem, known=known, wanted=wanted), german, english


def test_wechsel_is_a_softmax_over_aligned_neighbours(
    world_of_words: tuple[Problem, dict[str, np.ndarray], dict[str, np.ndarray]],
    from_origins: Callable[..., torch.Tensor],
) -> None:
    problem, german, english = world_of_words
    solution = methods.get("wechsel")(problem)
    x = np.stack([english[word] for word in ENGLISH + NAMES])
    y = np.stack([german[word] for word in GERMAN + NAMES])
    u, _, vt = np.linalg.svd(x.T @ y)
    names = np.stack([english[name] for name in NAMES]) @ u @ vt
    names /= np.linalg.norm(names, axis=1, keepdims=True)
    for token, word in enumerate(GERMAN):
        cosines = names @ german[word] / np.linalg.norm(german[word])
        nearest = np.argsort(-cosines)[:4]
        weights = np.exp(cosines[nearest] / 0.1)
        expected = weights / weights.sum() @ problem.source.double().numpy()[nearest]
        np.testing.assert_allclose(solution.rows[token].numpy(), expected, rtol=1e-3, atol=1e-4)
    assert solution.origins is not None
    origins = solution.origins(5)
    torch.testing.assert_close(from_origins(problem, origins)[:-1], solution.rows[:-1], rtol=1e-4, atol=1e-4)
    assert solution.diagnostics["drawn"] == 1
    assert solution.diagnostics["dictionary_pairs_used"] == len(ENGLISH + NAMES)
    assert (origins.ids[-1] == -1).all()
    assert solution.rows[-1].abs().sum() > 0


def test_wechsel_finds_its_files_at_home(
    world_of_words: tuple[Problem, Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`~` is no shell's business where it stands after a `=`; the plan knows the files' contents too."""
    problem, _, _ = world_of_words
    monkeypatch.setenv("HOME", str(tmp_path))
    home = {name: f"~/{Path(getattr(problem.options, name)).name}" for name in FILES}
    options = replace(problem.options, name="wechsel", **home)
    rows = methods.get("wechsel")(problem).rows
    at_home = replace(problem, options=options, generator=torch.Generator().manual_seed(1))
    assert torch.equal(methods.get("wechsel")(at_home).rows, rows)
    inputs = TransferJob("s", [], None, options, tmp_path / "out").plan().inputs
    assert {name: inputs[name] for name in FILES} == {
        name: sha256_file(Path(getattr(problem.options, name))) for name in FILES
    }


def test_norms_reach_rows_of_neighbours_and_drawn_ones(world_of_words: tuple[Problem, Any, Any]) -> None:
    problem, _, _ = world_of_words
    solution = solve(replace(problem, options=replace(problem.options, name="wechsel", norms="source")))
    assert solution.diagnostics["drawn"] == 1
    expected = float(problem.source.double().norm(dim=1).mean())
    assert solution.rows.norm(dim=1).tolist() == pytest.approx([expected] * len(solution.rows), rel=1e-5)


def test_wechsel_reads_fasttext_models_with_subwords(world_of_words: tuple[Problem, Any, Any], tmp_path: Path) -> None:
    """A word that the model never saw has a vector from its character n-grams."""
    from gensim.models import FastText
    from gensim.models.fasttext import save_facebook_model

    problem, _, _ = world_of_words
    sentences = [GERMAN + NAMES] * 30
    model = FastText(sentences, vector_size=DIM, min_count=1, bucket=500, workers=1, seed=1, epochs=1)
    path = tmp_path / "model.bin"
    save_facebook_model(model, str(path))
    problem = replace(problem, wanted=spelled([*GERMAN, "Hausbaum"])(problem.wanted))
    solution = methods.get("wechsel")(replace(problem, options=replace(problem.options, vectors=str(path))))
    assert solution.diagnostics["drawn"] == 0
    found = token_vectors([Key(b"Hausbaum", True), Key(b"\xc3", False), Key(b"", True)], model.wv).table
    np.testing.assert_allclose(found[0].numpy(), model.wv.get_vector("Hausbaum"), rtol=1e-6)
    assert (found[1:] == 0).all()


def test_token_vectors_without_subwords_are_means_of_words_that_contain_the_text() -> None:
    from gensim.models import KeyedVectors

    words = ["Haus", "Rathaus", "Hausrat", "aus"]
    vectors = KeyedVectors(DIM)
    vectors.add_vectors(words, np.random.default_rng(0).normal(size=(4, DIM)).astype(np.float32))
    keys = [Key(b"Haus", True), Key(b"aus", False), Key(b"rat", True), Key(b"\xc3", False)]
    expected = np.zeros((4, DIM))
    for token, ranks in enumerate([[1, 3], [1, 2, 3, 4], [], []]):
        if ranks:
            shares = np.array([1 / rank for rank in ranks])
            expected[token] = shares @ vectors.vectors[np.array(ranks) - 1] / shares.sum()
    np.testing.assert_allclose(token_vectors(keys, vectors).table.numpy(), expected, rtol=1e-5, atol=1e-6)


def wechsel_error(problem: Problem, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        methods.get("wechsel")(replace(problem, options=replace(problem.options, **options)))
    return str(caught.value)


def test_wechsel_names_what_is_wrong_with_its_files(
    world_of_words: tuple[Problem, dict[str, np.ndarray], Any], tmp_path: Path
) -> None:
    problem, german, _ = world_of_words
    bad = tmp_path / "bad"
    assert "needs dictionary" in wechsel_error(problem, dictionary=None)
    assert "needs source_vectors" in wechsel_error(problem, source_vectors=None)
    assert "no.vec is not a file" in wechsel_error(problem, vectors="no.vec")
    bad.write_text("house\tHaus\nhouse Haus\n")
    assert "line 2" in wechsel_error(problem, dictionary=str(bad))
    bad.write_bytes(b"gr\xfcn\tgreen\n")
    assert "UTF-8" in wechsel_error(problem, dictionary=str(bad))
    bad.write_text("Haus\thouse\n")
    assert "none of its 1 pairs" in wechsel_error(problem, dictionary=str(bad))
    short = tmp_path / "short.vec"
    short.write_text("2 3\nHaus 1 2 3\nBaum 1 2 3\n")
    assert "dimensions" in wechsel_error(problem, vectors=str(short))
    assert "source language" not in wechsel_error(problem, vectors=str(short))
    for content in (b"not vectors\n", b"3 4\nHaus 1 2\n", b"", b"\xff\xfe\x00"):
        for name in ("broken.vec", "broken.bin", "broken.vec.gz"):
            (tmp_path / name).write_bytes(content)
            assert name in wechsel_error(problem, vectors=str(tmp_path / name))
    other = save_text(tmp_path / "other.vec", {word: german[word] for word in GERMAN})
    bad.write_text("Haus\tHaus\n")
    assert "no overlapping token" in wechsel_error(problem, source_vectors=other, dictionary=str(bad))


def keyed_text(seed: int = 0, documents: int = 60) -> list[list[Key]]:
    """Two topics of tokens that never occur together; the last token of each is not in the overlap."""
    draw = random.Random(seed)
    topics = [[Key(f"{topic}{i}".encode(), i % 2 == 0) for i in range(6)] for topic in "ab"]
    return [draw.choices(draw.choice(topics), k=40) for _ in range(documents)]


@pytest.fixture
def topical(make: Make) -> Problem:
    problem = make(overlap=10, missing=3, focus_dimension=16, focus_epochs=8)
    known = [Key(f"{topic}{i}".encode(), i % 2 == 0) for topic in "ab" for i in range(5)]
    wanted = [Key(b"a5", False), Key(b"b5", False), Key(b"\xc3\x28", True)]
    return replace(
        problem,
        known=replace(problem.known, keys=known),
        wanted=replace(problem.wanted, keys=wanted),
        text=keyed_text,
    )


def test_focus_is_sparsemax_over_trained_vectors(topical: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
    """The vectors come from gensim; what is made of them is compared with the formula."""
    trained: dict[str, np.ndarray] = {}
    train = focus._train

    def kept(problem: Problem) -> dict[str, np.ndarray]:
        trained.update(train(problem))
        return trained

    monkeypatch.setattr(focus, "_train", kept)
    solution = methods.get("focus")(topical)
    assert solution.diagnostics["drawn"] == 1
    assert set(trained) == {("▁" if i % 2 == 0 else "") + f"{topic}{i}" for topic in "ab" for i in range(6)}
    known = np.stack([trained[focus.written(key)] for key in topical.known.keys]).astype(np.float64)
    for token in range(2):
        vector = trained[focus.written(topical.wanted.keys[token])].astype(np.float64)
        z = known @ vector / np.linalg.norm(known, axis=1) / np.linalg.norm(vector)
        ordered, size = np.sort(z)[::-1], np.arange(1, len(z) + 1)
        k = size[1 + size * ordered > ordered.cumsum()].max()
        weights = (z - (ordered[:k].sum() - 1) / k).clip(min=0)
        expected = weights @ topical.source.double().numpy()
        np.testing.assert_allclose(solution.rows[token].numpy(), expected, rtol=1e-3, atol=1e-4)


def test_focus_finds_tokens_of_the_same_topic_and_follows_the_seed(topical: Problem) -> None:
    first = methods.get("focus")(topical)
    topical.generator.manual_seed(1)
    assert torch.equal(first.rows, methods.get("focus")(topical).rows)
    assert first.origins is not None
    origins = first.origins(10)
    share = [
        sum(w for i, w in zip(origins.ids[token].tolist(), origins.weights[token].tolist(), strict=True) if i in own)
        for token, own in enumerate((set(topical.source_ids[:5].tolist()), set(topical.source_ids[5:].tolist())))
    ]
    assert min(share) > 0.6


def test_focus_without_enough_text(topical: Problem) -> None:
    with pytest.raises(UserError, match="none is given"):
        methods.get("focus")(replace(topical, text=None))
    with pytest.raises(UserError, match="10 times"):
        methods.get("focus")(replace(topical, text=lambda: [keyed_text()[0][:9]]))
    with pytest.raises(UserError, match="10 times"):
        methods.get("focus")(replace(topical, text=lambda: []))


@pytest.mark.parametrize("name", ["focus", "wechsel"])
def test_gensim_is_asked_for(
    name: str, topical: Problem, world_of_words: tuple[Problem, Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gensim", None)
    monkeypatch.setitem(sys.modules, "gensim.models", None)
    with pytest.raises(UserError, match=r"clp-transfer\[vectors\]"):
        methods.get(name)(topical if name == "focus" else world_of_words[0])
