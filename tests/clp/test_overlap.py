"""Matching by bytes, special tokens by name or role."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from clp_transfer.clp.keys import byte_alphabet, token_bytes
from clp_transfer.clp.overlap import match
from clp_transfer.clp.transfer import source_pieces
from clp_transfer.errors import UserError


def load(folder):
    return PreTrainedTokenizerFast.from_pretrained(folder)


def test_byte_alphabet_is_gpt2s() -> None:
    from tokenizers.pre_tokenizers import ByteLevel

    assert sorted(byte_alphabet()) == sorted(ByteLevel.alphabet())
    assert sorted(byte_alphabet().values()) == list(range(256))
    pre = ByteLevel(add_prefix_space=False, use_regex=False)
    spelled = pre.pre_tokenize_str("Straße ok")[0][0]
    assert bytes(byte_alphabet()[c] for c in spelled) == "Straße ok".encode()


def test_every_token_spells_what_the_tokenizer_decodes(world) -> None:
    tokenizer = load(world.target_tokenizer)
    for index, spelled in token_bytes(tokenizer, "the target").items():
        assert tokenizer.decode([index]) == spelled.decode("utf-8", errors="replace")


def test_overlap_is_the_shared_token_strings(world) -> None:
    source, target = load(world.source_tokenizer), load(world.target_tokenizer)
    overlap = match(source, target)
    both = set(source.get_vocab()) & set(target.get_vocab())
    assert overlap.shared == {target.get_vocab()[t]: source.get_vocab()[t] for t in both}
    assert set(overlap.shared) | set(overlap.missing) == set(range(len(target)))
    assert not set(overlap.shared) & set(overlap.missing)


def test_end_of_text_is_matched_by_role_where_its_string_differs(world, tmp_path) -> None:
    source = load(world.source_tokenizer)
    text = (world.source_tokenizer / "tokenizer.json").read_text().replace("<|endoftext|>", "</s>")
    other = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(text), eos_token="</s>")
    overlap = match(source, other)
    assert overlap.shared[other.eos_token_id] == source.eos_token_id
    assert "eos_token" in overlap.special["</s>"]


def test_nothing_shared_is_an_error(world) -> None:
    lonely = Tokenizer(models.WordLevel({"ĀĀĀ": 0, "<|endoftext|>": 1}, unk_token="<|endoftext|>"))
    target = PreTrainedTokenizerFast(tokenizer_object=lonely, eos_token="<|endoftext|>")
    with pytest.raises(UserError, match="share no token"):
        match(load(world.source_tokenizer), target)


def test_other_kinds_of_vocabulary_are_refused_by_name(world) -> None:
    pieces = Tokenizer(models.WordLevel({"▁Haus": 0, "</s>": 1}, unk_token="</s>"))
    with pytest.raises(UserError, match="byte-level"):
        match(load(world.source_tokenizer), PreTrainedTokenizerFast(tokenizer_object=pieces, eos_token="</s>"))


def test_pieces_spell_the_token(world) -> None:
    source, target = load(world.source_tokenizer), load(world.target_tokenizer)
    ids = match(source, target).missing
    by_id, wanted = token_bytes(source, "the source"), token_bytes(target, "the target")
    for index, pieces in zip(ids, source_pieces(source, target, ids), strict=True):
        assert b"".join(by_id[p] for p in pieces) == wanted[index]


def test_pieces_of_a_cut_character_are_its_bytes(world) -> None:
    source, target = load(world.source_tokenizer), load(world.target_tokenizer)
    half = target.get_vocab()["Ã"]  # the first byte of ä, ö, ü, ß: not UTF-8 on its own
    assert source_pieces(source, target, [half]) == [[source.get_vocab()["Ã"]]]
