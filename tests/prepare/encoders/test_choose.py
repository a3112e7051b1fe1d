"""The fastest encoder that is exact is used; one that is not is named loudly and left out."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
from tokenizers import Tokenizer

from clp_transfer.errors import UserError
from clp_transfer.prepare.encoders import Encoded
from clp_transfer.prepare.encoders import choose as choosing
from clp_transfer.prepare.encoders.choose import choose
from clp_transfer.prepare.encoders.tokenizers_backend import TokenizersEncoder

Fast = dict[str, Callable[[Tokenizer], object]]


class Panic(BaseException):
    """What a panic of Rust code is."""


class Good(TokenizersEncoder):
    name = "good"


class WrongOnNul(Good):
    def encode(self, texts: list[str]) -> Encoded:
        return super().encode([text.replace("\x00", "") for text in texts])


class TakesSpecialTokens(Good):
    def encode(self, texts: list[str]) -> Encoded:
        self._backend.encode_special_tokens = False
        encoded = super().encode(texts)
        self._backend.encode_special_tokens = True
        return encoded


class WrongOnTheCorpus(Good):
    def encode(self, texts: list[str]) -> Encoded:
        return super().encode([text.replace("Zauberwort", "Zauber wort") for text in texts])


class WrongTheSecondTime(Good):
    calls = 0

    def encode(self, texts: list[str]) -> Encoded:
        self.calls += 1
        ids, lengths = super().encode(texts)
        return (ids if self.calls < 2 else ids[::-1]), lengths


class Panics(Good):
    def encode(self, texts: list[str]) -> Encoded:
        raise Panic("index out of bounds\nmore")


def cannot_load(backend: Tokenizer) -> None:
    raise RuntimeError("unknown pre-tokenizer")


def missing(backend: Tokenizer) -> None:
    raise ImportError("no module")


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> Fast:
    """The fast encoders that there are: a test puts in its own."""
    table: Fast = {}
    monkeypatch.setattr(choosing, "FAST", table)
    monkeypatch.setattr(choosing, "WANTED", ("auto", "tokenizers", "bad", "good"))
    return table


@pytest.mark.parametrize("wanted", ["auto", "fastokens"])
def test_fastokens_is_the_first_choice(wanted: str, backend: Tokenizer, texts: list[str]) -> None:
    pytest.importorskip("fastokens")
    assert choose(backend, wanted, texts).name == "fastokens"


def test_gigatoken_by_name(backend: Tokenizer, texts: list[str]) -> None:
    pytest.importorskip("gigatoken")
    if "Split" in backend.to_str():
        with pytest.raises(UserError, match="encoder=gigatoken: it cannot load this tokenizer"):
            choose(backend, "gigatoken", texts)
    else:
        assert choose(backend, "gigatoken", texts).name == "gigatoken"


def test_the_exact_one_by_name(backend: Tokenizer, texts: list[str]) -> None:
    assert choose(backend, "tokenizers", texts).name == "tokenizers"


@pytest.mark.parametrize(
    "bad", [WrongOnNul, TakesSpecialTokens, WrongOnTheCorpus, WrongTheSecondTime, Panics, cannot_load]
)
def test_one_that_fails_is_named_and_the_next_taken(
    bad: Callable[[Tokenizer], object], backend: Tokenizer, fast: Fast, caplog: pytest.LogCaptureFixture
) -> None:
    fast.update(bad=bad, good=Good)
    texts = ["ein Zauberwort"]
    with caplog.at_level(logging.WARNING):
        assert choose(backend, "auto", texts).name == "good"
    assert "ENCODER bad IS NOT USED" in caplog.text
    with pytest.raises(UserError, match="encoder=bad: it"):
        choose(backend, "bad", texts)
    del fast["good"]
    assert choose(backend, "auto", texts).name == "tokenizers"


def test_the_warning_shows_a_text(backend: Tokenizer, fast: Fast, caplog: pytest.LogCaptureFixture) -> None:
    fast["bad"] = WrongOnTheCorpus
    choose(backend, "auto", ["eins", "das Zauberwort", "drei"])
    assert "for 1 of" in caplog.text and "'das Zauberwort'" in caplog.text


def test_missing_ones(backend: Tokenizer, fast: Fast, caplog: pytest.LogCaptureFixture) -> None:
    fast.update(bad=missing, good=Good)
    assert choose(backend, "auto", []).name == "good"
    assert not caplog.text  # one is enough
    with pytest.raises(UserError, match="encoder=bad is not installed"):
        choose(backend, "bad", [])
    fast["good"] = missing
    assert choose(backend, "auto", []).name == "tokenizers"
    assert "no fast encoder is installed" in caplog.text


def test_an_unknown_name(backend: Tokenizer) -> None:
    with pytest.raises(UserError, match="encoder=quick is not known") as error:
        choose(backend, "quick", [])
    assert "fastokens" in error.value.remedy


def test_only_the_beginning_of_the_corpus_is_read(
    backend: Tokenizer, fast: Fast, monkeypatch: pytest.MonkeyPatch
) -> None:
    fast["good"] = Good
    monkeypatch.setattr(choosing, "CHECKED", 1000)

    def documents():
        yield "a " * 400
        yield "b " * 40_000  # a long one is cut
        raise AssertionError("read on")

    assert choose(backend, "auto", documents()).name == "good"


def test_an_interrupt_is_not_swallowed(backend: Tokenizer, fast: Fast) -> None:
    def interrupted(_: Tokenizer) -> None:
        raise KeyboardInterrupt

    fast["good"] = interrupted
    with pytest.raises(KeyboardInterrupt):
        choose(backend, "auto", [])
