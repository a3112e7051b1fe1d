"""Ordinary tokens by what they spell, special tokens by string and role."""

from __future__ import annotations

import json

import pytest
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from clp_transfer.clp.vocabulary.keys import Key
from clp_transfer.clp.vocabulary.match import class_of, match
from clp_transfer.clp.vocabulary.vocabulary import Vocabulary
from clp_transfer.errors import UserError


def read(tokenizer, name: str = "x") -> Vocabulary:
    return Vocabulary.read(tokenizer, name)


def test_every_pair_shares_what_both_spell(each, other) -> None:
    overlap = match(each, other)
    spelled = {key.text for key in each.keys.values()}
    ordinary = {i for i in overlap.shared if i not in overlap.special_ids}
    assert ordinary == {i for i, key in other.keys.items() if key.text in spelled}
    assert all(each.keys[overlap.shared[i]] == other.keys[i] for i in ordinary)
    assert list(overlap.shared) == sorted(overlap.shared)
    assert overlap.missing == sorted(set(other.keys) - ordinary)
    assert overlap.special_ids == set(other.special.values()) <= set(overlap.shared)
    assert set(overlap.special) == set(other.special)
    assert overlap.size == len(overlap.shared) + len(overlap.missing) == other.size


def test_identical_only_to_itself(each, other) -> None:
    overlap = match(each, other)
    assert overlap.identical == (each is other or each.tokens == other.tokens)
    if each is other:
        assert overlap.shared == {i: i for i in range(each.size)}


def test_not_identical_with_one_token_more_in_either(make) -> None:
    plain, longer = make("llama2"), make("llama2")
    longer.add_tokens([AddedToken("xyz", special=False)])
    assert not match(read(longer), read(plain)).identical
    assert not match(read(plain), read(longer)).identical
    assert match(read(longer), read(make("llama2"))).missing == []


def test_umlauts_match_across_kinds(vocabularies) -> None:
    """A byte-level "Ã¶ÃŁer" and a SentencePiece "ößer" are one token."""
    sp, bpe = vocabularies["metaspace"], vocabularies["gpt2"]
    overlap = match(bpe, sp)
    assert overlap.shared[sp.ids["▁Straße"]] == bpe.ids["ĠStraÃŁe"]
    assert overlap.shared[sp.ids["ößer"]] == bpe.ids["Ã¶ÃŁer"]
    assert overlap.shared[sp.ids["<0xC3>"]] == bpe.ids["Ã"]
    assert overlap.shared[sp.ids["<0x0A>"]] == bpe.ids["Ċ"]
    bert = vocabularies["bert"]
    overlap = match(bpe, bert)
    assert overlap.shared[bert.ids["Straße"]] == bpe.ids["ĠStraÃŁe"]
    assert overlap.shared[bert.ids["##öße"]] == bpe.ids["Ã¶ÃŁe"]
    assert overlap.shared[bert.ids["("]] == bpe.ids["("]


def test_all_bytes_of_two_kinds_match_one_to_one(vocabularies) -> None:
    sp, bpe = vocabularies["gemma"], vocabularies["llama3"]
    shared = match(bpe, sp).shared
    high = [shared[sp.ids[f"<0x{byte:02X}>"]] for byte in range(128, 256)]
    assert len(set(high)) == 128


def test_a_byte_and_its_character_each_find_themselves(vocabularies, make) -> None:
    llama = vocabularies["llama2"]
    overlap = match(llama, vocabularies["metaspace"])
    for token in ("<0x61>", "a"):
        assert overlap.shared[vocabularies["metaspace"].ids[token]] == llama.ids[token]
    assert overlap.ambiguous == {"source": llama.ambiguous, "target": llama.ambiguous}


def renamed(tokenizer, old: str, new: str, **roles) -> PreTrainedTokenizerFast:
    """The same tokenizer with one token's string replaced."""
    text = tokenizer.backend_tokenizer.to_str().replace(json.dumps(old), json.dumps(new))
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(text), **roles)


def test_end_of_text_by_string_though_the_source_ends_with_another(make) -> None:
    source = make("gpt2")
    source.add_special_tokens({"eos_token": "<|im_end|>"})
    overlap = match(read(source), read(make("llama3")))
    assert source.eos_token_id != 0
    assert overlap.shared[0] == 0
    assert overlap.special["<|endoftext|>"] == "same token in the source (id 0)"


def test_end_of_text_by_role_where_its_string_differs(make) -> None:
    source = make("gpt2")
    source.add_special_tokens({"eos_token": "<|im_end|>"})
    target = renamed(make("llama3"), "<|endoftext|>", "</s>", eos_token="</s>", pad_token="</s>")
    overlap = match(read(source), read(target))
    assert overlap.shared[target.eos_token_id] == source.eos_token_id
    assert overlap.special["</s>"].startswith("the source's eos_token '<|im_end|>'")


@pytest.mark.parametrize(
    ("source_roles", "target_roles", "role", "substitute"),
    [
        ({"eos_token": "E", "bos_token": "B", "unk_token": "U"}, {"pad_token": "P"}, "pad", "E"),
        ({"bos_token": "B", "unk_token": "U"}, {"pad_token": "P"}, "pad", "B"),
        ({"eos_token": "E", "unk_token": "U"}, {"bos_token": "P"}, "bos", "E"),
        ({"bos_token": "B", "sep_token": "S"}, {"eos_token": "P"}, "eos", "B"),
        ({"sep_token": "S", "cls_token": "C"}, {"eos_token": "P"}, "eos", "S"),
        ({"eos_token": "E", "pad_token": "D"}, {"unk_token": "P"}, "unk", "D"),
        ({"eos_token": "E", "unk_token": "U"}, {"mask_token": "P"}, "mask", "U"),
        ({"eos_token": "E", "unk_token": "U"}, {"sep_token": "P"}, "sep", "E"),
        ({"eos_token": "E", "bos_token": "B"}, {"cls_token": "P"}, "cls", "B"),
        ({"sep_token": "S", "cls_token": "C"}, {"bos_token": "P"}, "bos", "C"),
        # Several roles in one token: the weightiest that the source has, eos before bos before pad.
        ({"eos_token": "E", "pad_token": "D"}, {"eos_token": "P", "pad_token": "P"}, "eos", "E"),
        ({"bos_token": "B", "pad_token": "D"}, {"eos_token": "P", "pad_token": "P"}, "pad", "D"),
    ],
)
def test_the_nearest_role(source_roles, target_roles, role, substitute) -> None:
    source, target = roled(source_roles), roled(target_roles)
    overlap = match(source, target)
    assert overlap.shared[target.roles[role]] == source.ids[substitute]
    exact = role in source.roles
    assert overlap.special["P"].startswith("the source's" if exact else "substitute: the source's")
    assert overlap.missing == []


def roled(roles: dict[str, str], extra: tuple[str, ...] = ()) -> Vocabulary:
    """A byte-level vocabulary of two words and these special tokens."""
    tokens = dict.fromkeys(["Ġa", "b", *roles.values(), *extra])
    tokenizer = Tokenizer(models.WordLevel({token: i for i, token in enumerate(tokens)}, unk_token="b"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **roles)
    if extra:
        fast.add_special_tokens({"additional_special_tokens": list(extra)})
    return read(fast)


def test_a_special_token_without_a_role() -> None:
    target = roled({"eos_token": "E"}, extra=("<|user|>",))
    index = target.ids["<|user|>"]
    for roles, found in (
        ({"unk_token": "U", "eos_token": "E"}, "U"),
        ({"bos_token": "B", "eos_token": "E"}, "E"),
        ({"bos_token": "B"}, "B"),
    ):
        source = roled(roles)
        overlap = match(source, target)
        assert overlap.shared[index] == source.ids[found]
        assert overlap.special["<|user|>"].startswith("substitute")
    source = roled({}, extra=("<|x|>", "<|user|>"))
    overlap = match(source, target)
    assert overlap.shared[index] == source.ids["<|user|>"]
    assert overlap.shared[target.roles["eos"]] == source.ids["<|x|>"]
    assert "first special token" in overlap.special["E"]


def test_a_source_without_special_tokens_leaves_them_missing_and_says_so() -> None:
    target = roled({"eos_token": "E"})
    overlap = match(roled({}), target)
    assert overlap.missing == [target.roles["eos"]]
    assert "no special token at all" in overlap.special["E"]
    assert overlap.classes["special"] == {"shared": 0, "missing": 1}


@pytest.mark.parametrize("special_in_source", [True, False])
def test_an_added_token_marked_special_on_one_side_only(make, special_in_source) -> None:
    source, target = make("gpt2"), make("llama3")
    for tokenizer, special in ((source, special_in_source), (target, not special_in_source)):
        tokenizer.add_tokens([AddedToken("<tool>", special=special)], special_tokens=special)
    shared = match(read(source), read(target)).shared
    assert shared[target.get_vocab()["<tool>"]] == source.get_vocab()["<tool>"]


def test_text_that_looks_like_a_special_token_is_text(vocabularies, make) -> None:
    """ "<s>" strikes words out in HTML: an ordinary token is not given the source's begin-of-text row."""
    words = Tokenizer(models.WordLevel({"<s>": 0, "Ġthe": 1, "E": 2}, unk_token="E"))
    words.pre_tokenizer = pre_tokenizers.ByteLevel()
    target = read(PreTrainedTokenizerFast(tokenizer_object=words, eos_token="E"))
    assert match(vocabularies["llama2"], target).missing == [0]


def test_classes(vocabularies) -> None:
    keys = {
        "word": Key("Straße".encode(), True),
        "continuation": Key("größe".encode(), False),
        "number": Key(b"2024", True),
        "punctuation": Key("„".encode(), False),
        "bytes": Key(b"\xc3", False),
    }
    assert {name: class_of(key) for name, key in keys.items()} == {name: name for name in keys}
    assert class_of(Key(b"", True)) == "punctuation"
    assert class_of(Key(b"3a", True)) == "word"
    overlap = match(vocabularies["gpt2"], vocabularies["metaspace"])
    assert sum(c["shared"] for c in overlap.classes.values()) == len(overlap.shared)
    assert sum(c["missing"] for c in overlap.classes.values()) == len(overlap.missing)
    assert overlap.classes["bytes"] == {"shared": 128, "missing": 0}
    assert overlap.classes["special"] == {"shared": 3, "missing": 0}


def test_the_report(vocabularies) -> None:
    overlap = match(vocabularies["gpt2"], vocabularies["llama3"])
    report = json.loads(json.dumps(overlap.as_dict()))
    assert report["shared"] == len(overlap.shared)
    assert report["shared"] + report["missing"] == report["target"] == vocabularies["llama3"].size
    assert report["special"] == {"<|endoftext|>": "same token in the source (id 0)"}


def test_gaps_are_neither_shared_nor_missing(make) -> None:
    target = read(gapped({"Ġa": 0, "b": 4}))
    overlap = match(read(gapped({"Ġa": 0, "b": 1})), target)
    assert (overlap.shared, overlap.missing, overlap.gaps, overlap.size) == ({0: 0, 4: 1}, [], [1, 2, 3], 5)
    assert match(target, target).identical


def gapped(vocab: dict[str, int]) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="b"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def test_nothing_shared_is_an_error(vocabularies) -> None:
    lonely = read(gapped({"ĀĀĀ": 0, "b": 1}), "the target")
    del lonely.keys[1]
    with pytest.raises(UserError, match="share no token"):
        match(vocabularies["gpt2"], lonely)
