from __future__ import annotations

import itertools
import random

import pytest

from clp_transfer.errors import UserError
from clp_transfer.prepare.documents import Document
from clp_transfer.prepare.split import size, split


def documents(count: int = 500) -> list[Document]:
    draw = random.Random(0)
    return [Document(str(i), f"{i} " + "ä" * draw.randint(1, 60)) for i in range(count)]


def make(docs: list[Document], validation_bytes: int = 5_000, train_bytes: int | None = None, seed: int = 1):
    return split(docs, corpus="x", validation_bytes=validation_bytes, train_bytes=train_bytes, seed=seed)


def test_every_document_is_in_exactly_one_split_and_validation_is_filled():
    docs = documents()
    parts = make(docs)
    texts = {part: {d.text for d in chosen} for part, chosen in parts.items()}
    assert not texts["train"] & texts["validation"]
    assert texts["train"] | texts["validation"] == {d.text for d in docs}
    taken = sum(map(size, parts["validation"]))
    assert 5_000 <= taken < 5_000 + max(map(size, docs))


def test_the_split_does_not_depend_on_the_order_of_the_source():
    docs = documents()
    shuffled = random.Random(1).sample(docs, len(docs))
    assert make(docs) == make(shuffled)


def test_the_seed_draws_another_split_and_documents_are_shuffled():
    docs = documents()
    parts = make(docs)
    assert parts["validation"] != make(docs, seed=2)["validation"]
    places = [int(d.id) for d in parts["train"]]
    ascending = sum(a < b for a, b in itertools.pairwise(places)) / len(places)
    assert 0.4 < ascending < 0.6


def test_a_capped_train_split_is_the_start_of_the_whole_one():
    whole, capped = make(documents()), make(documents(), train_bytes=3_000)
    assert capped["validation"] == whole["validation"]
    assert capped["train"] == whole["train"][: len(capped["train"])]
    total = sum(map(size, capped["train"]))
    assert 3_000 <= total < 3_000 + 130


def test_an_empty_corpus_is_refused():
    with pytest.raises(UserError, match="corpus x is empty"):
        make([])


def test_a_corpus_too_small_for_the_split_is_refused_with_its_numbers():
    docs = documents(20)
    total = sum(map(size, docs))
    with pytest.raises(UserError, match=f"20 documents of {total} bytes.*validation_bytes={total}"):
        make(docs, validation_bytes=total)
    with pytest.raises(UserError, match="too small"):
        make(docs, validation_bytes=total // 2 + max(map(size, docs)))
    with pytest.raises(UserError, match="validation_bytes=0"):
        make(docs, validation_bytes=0)


def test_one_document_cannot_be_split():
    with pytest.raises(UserError, match="too small"):
        make([Document("a", "text")], validation_bytes=1)
