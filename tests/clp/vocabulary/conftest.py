"""One vocabulary of every kind."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tiny import tokenizers
from transformers import PreTrainedTokenizerFast

from clp_transfer.clp.vocabulary.vocabulary import Vocabulary


@pytest.fixture(scope="session")
def vocabularies() -> dict[str, Vocabulary]:
    """One vocabulary of each shape by name."""
    return {name: Vocabulary.read(tokenizers.make(name), name) for name in tokenizers.MAKERS}


@pytest.fixture(params=tokenizers.MAKERS)
def each(request, vocabularies) -> Vocabulary:
    """Each shape in turn."""
    return vocabularies[request.param]


@pytest.fixture(params=tokenizers.MAKERS)
def other(request, vocabularies) -> Vocabulary:
    """Each shape in turn, for pairs."""
    return vocabularies[request.param]


@pytest.fixture
def make() -> Callable[..., PreTrainedTokenizerFast]:
    """`make(name, **roles)`: a fresh tokenizer of a shape, with other special tokens (None: none in a role)."""
    return tokenizers.make
