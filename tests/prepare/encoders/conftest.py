"""Tokenizers of both pre-tokenizations, trained on made-up German and on what hostile texts are made of."""

from __future__ import annotations

import pytest
from tokenizers import AddedToken, Tokenizer
from tokenizers.normalizers import NFC

from clp_transfer.bench.text import documents
from clp_transfer.prepare.bpe import save_bpe, train_bpe
from clp_transfer.prepare.encoders.hostile import hostile_texts
from clp_transfer.prepare.packs import open_tokenizer

TEXTS = list(documents(60_000, seed=3, types=2000))


@pytest.fixture
def texts() -> list[str]:
    """The first documents of a corpus."""
    return TEXTS


@pytest.fixture(scope="session", params=["gpt2", "bloom"])
def backend(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """A tokenizer opened for packing."""
    folder = tmp_path_factory.mktemp("encoders") / request.param
    save_bpe(train_bpe([*TEXTS, *hostile_texts()], 900, name="t", pre_tokenizer=request.param), folder)
    return open_tokenizer(folder).backend


@pytest.fixture
def decorated(backend: Tokenizer) -> Tokenizer:
    """The same with a normaliser, added words (one special, one not) and a beginning that packing must not add."""
    fancy = Tokenizer.from_str(backend.to_str())
    fancy.normalizer = NFC()
    fancy.add_special_tokens(["<extra>"])
    fancy.add_tokens([AddedToken("Straße", normalized=False)])
    fancy.encode_special_tokens = True
    return fancy
