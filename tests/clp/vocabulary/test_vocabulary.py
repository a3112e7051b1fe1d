"""Special and added tokens, roles, gaps, and tokens that spell the same."""

from __future__ import annotations

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from clp_transfer.clp.vocabulary.keys import Key
from clp_transfer.clp.vocabulary.vocabulary import Vocabulary
from clp_transfer.errors import UserError


def test_every_id_is_special_ordinary_or_a_gap(each) -> None:
    assert each.size == len(each.tokenizer)
    assert set(each.keys) | set(each.special.values()) == set(range(each.size))
    assert not set(each.keys) & set(each.special.values())
    assert each.gaps == []
    assert all(each.tokenizer.convert_ids_to_tokens(i) == each.tokens[i] for i in range(each.size))


def test_roles_are_the_tokenizers(each) -> None:
    for role in ("eos", "bos", "unk", "pad", "mask", "sep", "cls"):
        assert each.roles.get(role) == getattr(each.tokenizer, f"{role}_token_id")


def test_added_tokens_spell_themselves(make) -> None:
    tokenizer = make("gpt2")
    tokens = ["    ", "größe", "ö"]  # "ö" is also how the byte F6 is written
    tokenizer.add_tokens([AddedToken(token, normalized=False, special=False) for token in tokens])
    tokenizer.add_tokens([AddedToken("<|im_start|>", special=True)], special_tokens=True)
    read = Vocabulary.read(tokenizer, "x")
    ids = tokenizer.get_vocab()
    assert [read.keys[ids[token]].text.decode() for token in tokens] == tokens
    assert read.special == {"<|endoftext|>": 0, "<|im_start|>": ids["<|im_start|>"]}
    # An encoded text uses them with just this meaning.
    text = "a    größeö"
    found = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert ids["    "] in found and ids["ö"] in found
    assert b"".join(read.texts[i] for i in found).decode() == text


def test_added_pieces_of_gemma_are_spaces(make) -> None:
    tokenizer = make("gemma")
    tokenizer.add_tokens([AddedToken("▁▁▁", normalized=False, special=False)])
    read = Vocabulary.read(tokenizer, "x")
    assert read.keys[tokenizer.get_vocab()["▁▁▁"]] == Key(b"  ", True)


def test_a_literal_token_goes_before_a_byte(vocabularies) -> None:
    llama = vocabularies["llama2"]
    ids = llama.ids
    assert ids["<0x61>"] < ids["a"]
    assert llama.keys[ids["<0x61>"]] == llama.keys[ids["a"]]
    assert llama.by_key[Key(b"a", False)] == ids["a"]
    assert llama.by_key[Key(b"\xe4", False)] == ids["<0xE4>"]
    doubles = [t for t in llama.tokens.values() if len(t) == 1 and t.isascii() and llama.ids[f"<0x{ord(t):02X}>"]]
    space = 1  # "▁" and <0x20>
    assert llama.ambiguous == len(doubles) + space


def test_of_equal_spellings_the_lowest_id(make) -> None:
    tokenizer = make("gpt2")
    tokenizer.add_tokens([AddedToken(" the", special=False)])
    read = Vocabulary.read(tokenizer, "x")
    assert read.ambiguous == 1
    assert read.by_key[Key(b"the", True)] == read.ids["Ġthe"] < read.ids[" the"]


def test_gaps() -> None:
    vocab = {"<|endoftext|>": 0, "Ġa": 2, "b": 5}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<|endoftext|>"))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(), decoders.ByteLevel()
    read = Vocabulary.read(PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>"), "x")
    assert (read.size, read.gaps) == (6, [1, 3, 4])


def test_a_named_special_token_outside_the_vocabulary_is_none(make) -> None:
    tokenizer = make("llama2")
    tokenizer._special_tokens_map["mask_token"] = "<mask>"
    assert tokenizer.mask_token_id == tokenizer.unk_token_id
    read = Vocabulary.read(tokenizer, "x")
    assert "mask" not in read.roles
    assert "<mask>" not in read.special


def test_an_empty_vocabulary_is_an_error() -> None:
    with pytest.raises(UserError, match="the helper has no tokens"):
        Vocabulary.read(PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE())), "the helper")
