"""Every token's key is what the tokenizer itself decodes and encodes."""

from __future__ import annotations

import pytest
from tokenizers.pre_tokenizers import ByteLevel

from clp_transfer.clp.vocabulary.keys import (
    Key,
    byte_alphabet,
    byte_level_key,
    byte_level_string,
    key_of,
    literal_key,
    sentencepiece_key,
    wordpiece_key,
)
from clp_transfer.clp.vocabulary.kinds import Kind


def test_byte_alphabet_is_gpt2s() -> None:
    assert sorted(byte_alphabet()) == sorted(ByteLevel.alphabet())
    assert sorted(byte_alphabet().values()) == list(range(256))
    spelled = ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str("Straße ok")[0][0]
    assert bytes(byte_alphabet()[c] for c in spelled) == "Straße ok".encode()
    assert byte_level_string("Straße ok".encode()) == spelled


@pytest.mark.parametrize(
    ("read", "token", "key"),
    [
        (byte_level_key, "ĠHaus", Key(b"Haus", True)),
        (byte_level_key, "ĠĠ", Key(b" ", True)),
        (byte_level_key, "Ġ", Key(b"", True)),
        (byte_level_key, "Ã", Key(b"\xc3", False)),
        (byte_level_key, "a b", Key(b"a b", False)),  # no byte alphabet: a plain space
        (byte_level_key, "\u00a0", Key("\u00a0".encode(), False)),  # Latin-1, but not in the alphabet
        (byte_level_key, "日", Key("日".encode(), False)),
        (literal_key, "    ", Key(b"   ", True)),
        (literal_key, "ö", Key("ö".encode(), False)),
        (sentencepiece_key, "▁Haus", Key(b"Haus", True)),
        (sentencepiece_key, "▁▁▁", Key(b"  ", True)),
        (sentencepiece_key, "a▁b", Key(b"a b", False)),
        (sentencepiece_key, "<0xE4>", Key(b"\xe4", False)),
        (sentencepiece_key, "<0x20>", Key(b"", True)),
        (sentencepiece_key, "<0xE4>x", Key(b"<0xE4>x", False)),
        (wordpiece_key, "haus", Key(b"haus", True)),
        (wordpiece_key, "##haus", Key(b"haus", False)),
        (wordpiece_key, "##", Key(b"##", False)),
        (wordpiece_key, "–", Key("–".encode(), False)),
        (wordpiece_key, "€", Key("€".encode(), False)),
        (wordpiece_key, "2", Key(b"2", True)),
        (wordpiece_key, "你", Key("你".encode(), False)),
    ],
)
def test_what_a_token_spells(read, token, key) -> None:
    assert read(token) == key
    assert key_of(key.text) == key


def test_keys_are_what_decoding_in_context_adds(each) -> None:
    """decode([x, token]) less decode([x]); for WordPiece only ".", "," … are joined to the word by the decoder."""
    decode = each.tokenizer.decode
    before = max(
        (index for index, key in each.keys.items() if key.spelled.isalpha() and key.spelled.isascii()),
        key=lambda index: each.keys[index].word_start,
    )
    checked = 0
    for index, key in each.keys.items():
        try:
            text = key.text.decode()
        except UnicodeDecodeError:
            continue
        if each.kind is Kind.WORDPIECE and not key.word_start and not (text.isalnum() or text in ".,!?"):
            continue
        if (each.kind is Kind.WORDPIECE and text == "你") or text == "好":
            continue  # set apart by the pre-tokenizer; the decoder puts a space there
        assert decode([before, index]) == decode([before]) + text, each.tokens[index]
        checked += 1
    assert checked > 60


def test_keys_of_an_encoded_text_join_to_the_text(each) -> None:
    text = "das Haus, und die Straße ist größer (grün) 2024 über"
    if each.name != "xglm":
        text += " 😀 \u4f60"  # bytes, cut characters, or a piece of its own
    if each.kind is Kind.WORDPIECE:
        text = text.replace("😀", "")
    ids = each.tokenizer(text, add_special_tokens=False)["input_ids"]
    joined = b"".join(each.keys[index].text for index in ids).decode()
    if each.kind is Kind.WORDPIECE:  # spaces are not tokens there
        assert joined.replace(" ", "") == text.replace(" ", "")
    else:
        assert joined.removeprefix(" ") == text


def test_the_128_bytes_that_are_no_text_stay_distinct(vocabularies) -> None:
    for name in ("gpt2", "llama2"):
        spelled = {key.spelled for key in vocabularies[name].keys.values()}
        assert {bytes([byte]) for byte in range(128, 256)} <= spelled
