"""The kind by a tokenizer's parts, and by its tokens where it has none."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizer, PreTrainedTokenizerFast

from clp_transfer.clp.vocabulary.kinds import Kind, continuation_prefix, kind_of
from clp_transfer.clp.vocabulary.vocabulary import Vocabulary
from clp_transfer.errors import UserError

KINDS = {"gpt2": "byte-level", "llama3": "byte-level", "prefix-space": "byte-level", "bert": "WordPiece"}


class Slow(PreTrainedTokenizer):
    """A tokenizer written in Python, one token a word."""

    def __init__(self, vocab: dict[str, int], **kwargs) -> None:
        self.words = vocab
        super().__init__(**kwargs)

    @property
    def vocab_size(self) -> int:
        return len(self.words)

    def get_vocab(self) -> dict[str, int]:
        return self.words | self.added_tokens_encoder

    def _tokenize(self, text: str, **kwargs) -> list[str]:
        return text.split()

    def _convert_token_to_id(self, token: str) -> int | None:
        return self.words.get(token, self.words.get("<unk>"))

    def _convert_id_to_token(self, index: int) -> str:
        return next(token for token, found in self.words.items() if found == index)


def test_by_the_parts(each) -> None:
    assert each.kind == KINDS.get(each.name, "SentencePiece")
    # The tokens are not asked: they would say nothing.
    assert kind_of(each.tokenizer, "x", ["a", "b"]) is each.kind


def test_by_the_tokens_alone(each) -> None:
    plain = {token: i for i, token in each.tokens.items() if i not in each.added}
    slow = Slow(plain)
    assert getattr(slow, "backend_tokenizer", None) is None
    read = Vocabulary.read(slow, "slow")
    assert read.kind is each.kind
    assert read.keys == each.keys


@pytest.mark.parametrize(
    ("part", "kind"),
    [
        ({"normalizer": normalizers.ByteLevel()}, Kind.BYTE_LEVEL),
        ({"decoder": decoders.ByteLevel()}, Kind.BYTE_LEVEL),
        ({"normalizer": normalizers.Replace(" ", "▁")}, Kind.SENTENCEPIECE),
        ({"pre_tokenizer": pre_tokenizers.Metaspace()}, Kind.SENTENCEPIECE),
    ],
)
def test_one_part_is_enough(part, kind) -> None:
    tokenizer = Tokenizer(models.WordLevel({"x": 0}, unk_token="x"))
    for name, value in part.items():
        setattr(tokenizer, name, value)
    assert kind_of(PreTrainedTokenizerFast(tokenizer_object=tokenizer), "x", ["x"]) is kind


def test_markdown_headings_are_no_word_pieces() -> None:
    tokens = ["Ġthe", "##", "###", "Ġof", *byte_tokens()]
    assert kind_of(Slow({}), "x", tokens) is Kind.BYTE_LEVEL


def byte_tokens() -> list[str]:
    return pre_tokenizers.ByteLevel.alphabet()


def test_bare_bytes_are_byte_level() -> None:
    assert kind_of(Slow({}), "x", byte_tokens()) is Kind.BYTE_LEVEL


def test_polish_word_pieces_are_no_bytes() -> None:
    """Their letters are all in the byte alphabet (ł, ą, ę)."""
    assert kind_of(Slow({}), "x", ["ład", "rząd", "##ę", "##ła", "dom"]) is Kind.WORDPIECE


def test_an_unknown_kind_is_named_with_some_tokens() -> None:
    with pytest.raises(UserError, match=r"of the helper.*unknown kind.*'haus'"):
        kind_of(Slow({}), "the helper", ["haus", "tür", "baum"])
    with pytest.raises(UserError, match="unknown kind"):  # one stray mark is no word piece
        kind_of(Slow({}), "x", ["##a", *(f"word{i}" for i in range(200))])


def test_marked_word_ends_are_an_unknown_kind() -> None:
    """CLIP's shape: bytes, but word starts cannot be told."""
    model = models.BPE({"h": 0, "a</w>": 1, "ha</w>": 2}, [("h", "a</w>")], end_of_word_suffix="</w>")
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    with pytest.raises(UserError, match="end of a word"):
        Vocabulary.read(PreTrainedTokenizerFast(tokenizer_object=tokenizer), "the source")


def test_word_pieces_with_another_prefix() -> None:
    model = models.WordPiece({"[UNK]": 0, "haus": 1, "@@tür": 2}, unk_token="[UNK]", continuing_subword_prefix="@@")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(model), unk_token="[UNK]")
    assert continuation_prefix(tokenizer) == "@@"
    read = Vocabulary.read(tokenizer, "x")
    assert read.keys == {1: (b"haus", True), 2: ("tür".encode(), False)}
