"""Every fast encoder gives the ids of `tokenizers`, text by text, on everything that is hostile."""

from __future__ import annotations

import json
import tracemalloc

import pytest
from tokenizers import Regex, Tokenizer
from tokenizers.normalizers import Sequence
from tokenizers.pre_tokenizers import Split

from clp_transfer.prepare.encoders import Encoder
from clp_transfer.prepare.encoders.choose import FAST
from clp_transfer.prepare.encoders.fastokens_backend import QUICKER, _quicker
from clp_transfer.prepare.encoders.gigatoken_backend import GigatokenEncoder
from clp_transfer.prepare.encoders.hostile import RUN, hostile_texts
from clp_transfer.prepare.encoders.tokenizers_backend import TokenizersEncoder

BACKENDS = {"tokenizers": TokenizersEncoder, **FAST}


def rows(encoder: Encoder, texts: list[str]) -> list[list[int]]:
    ids, lengths = encoder.encode(texts)
    assert len(lengths) == len(texts) and lengths.sum() == len(ids)
    flat = iter(ids.tolist())
    return [[next(flat) for _ in range(length)] for length in lengths]


def load(name: str, backend: Tokenizer) -> Encoder:
    pytest.importorskip(name)
    try:
        return BACKENDS[name](backend)
    except RuntimeError as error:
        assert name == "gigatoken" and "Split" in str(error)  # it does not know BLOOM's way
        pytest.skip(f"{name}: {error}")


@pytest.mark.parametrize("name", BACKENDS)
def test_ids_are_those_of_one_text_at_a_time(name: str, backend: Tokenizer, texts: list[str]) -> None:
    encoder = load(name, backend)
    every = [*texts, *hostile_texts(["<|endoftext|>"])]
    expected = [backend.encode(text, add_special_tokens=False).ids for text in every]
    for _ in range(2):  # from its caches the second time
        assert rows(encoder, every) == expected
    assert rows(encoder, []) == [] and rows(encoder, [""]) == [[]]
    assert encoder.name == name and encoder.version[0].isdigit()


@pytest.mark.parametrize("name", BACKENDS)
def test_added_words_and_normalisers(name: str, decorated: Tokenizer) -> None:
    if name == "gigatoken":
        decorated.normalizer = Sequence([])  # 0.10's NFC differs on rare marks: `choose` refuses it for that
    encoder = load(name, decorated)
    special, word = (decorated.token_to_id(token) for token in ("<extra>", "Straße"))
    every = ["eine Straße", "vor<extra>nach<|endoftext|>", "e\u0301a\u030a", *hostile_texts(["<extra>", "Straße"])]
    found = rows(encoder, every)
    assert word in found[0]
    assert special not in found[1] and 0 not in found[1]
    assert found == [decorated.encode(text, add_special_tokens=False).ids for text in every]


@pytest.mark.parametrize("pattern", QUICKER)
def test_a_quicker_pattern_cuts_every_character_as_the_original(pattern: str) -> None:
    pieces = [Split(Regex(written), "isolated").pre_tokenize_str for written in (pattern, QUICKER[pattern])]
    characters = [chr(point) for point in range(0x10000) if not 0xD800 <= point < 0xE000]
    for start in range(0, len(characters), 64):
        text = "".join(f"a{c}b {c}{c} {c}." for c in characters[start : start + 64])
        assert pieces[0](text) == pieces[1](text)


def test_fastokens_is_given_the_quicker_pattern(backend: Tokenizer) -> None:
    written = backend.to_str()
    assert ("Split" in written) == (_quicker(written) != written)

    def quicker(part: dict[str, object]) -> dict[str, object]:
        return {"Regex": QUICKER[str(part["Regex"])]} if "Regex" in part else part

    assert json.loads(_quicker(written)) == json.loads(written, object_hook=quicker)


def test_gigatoken_begins_anew_and_gives_the_same_ids(
    backend: Tokenizer, texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = load("gigatoken", backend)
    assert isinstance(encoder, GigatokenEncoder)
    expected, first = rows(encoder, texts), encoder._backend
    monkeypatch.setattr("clp_transfer.prepare.encoders.gigatoken_backend.RENEWED_AFTER", 1000)
    assert rows(encoder, texts) == expected
    assert encoder._backend is not first


def test_hostile_texts_are_what_they_should_be() -> None:
    every = hostile_texts(["<mine>"])
    assert every == hostile_texts(["<mine>"])
    joined = "\n".join(every)
    joined.encode()  # no lone surrogate
    for part in ("\x00", "\u2028", "\u200b", "\ufeff", "\r\n", " " * RUN, "0" * RUN, "a" * RUN, "vor<|endoftext|>nach"):
        assert part in joined
    assert "<mine>" in joined and max(max(map(len, text.split()), default=0) for text in every) >= 4 * RUN
    assert len({ord(c) >> 8 for c in joined}) > 500  # most of Unicode's rows
    assert len(joined.encode()) < 400_000


def test_encoding_needs_little_python_memory(backend: Tokenizer, texts: list[str]) -> None:
    encoder = load("fastokens", backend)
    tracemalloc.start()
    encoder.encode(texts)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * sum(len(text.encode()) for text in texts)  # ids, no objects
