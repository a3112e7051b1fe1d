"""Pieces spell exactly the token, in every pair of kinds."""

from __future__ import annotations

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizer, PreTrainedTokenizerFast

from clp_transfer.clp.vocabulary.keys import Key, wordpiece_key
from clp_transfer.clp.vocabulary.kinds import Kind
from clp_transfer.clp.vocabulary.match import match
from clp_transfer.clp.vocabulary.pieces import segment
from clp_transfer.clp.vocabulary.vocabulary import Vocabulary


def spelled(source: Vocabulary, pieces: list[int]) -> bytes:
    return b"".join(source.keys[piece].text for piece in pieces)


def expected(source: Vocabulary, key: Key) -> bytes:
    """A WordPiece source has no space before punctuation."""
    apart = source.kind is Kind.WORDPIECE and not wordpiece_key(key.spelled.decode("utf-8", "replace")[:1]).word_start
    return key.spelled if apart and key.word_start else key.text


def can_spell(texts: set[bytes], text: bytes) -> bool:
    return not text or any(text[:end] in texts and can_spell(texts, text[end:]) for end in range(1, len(text) + 1))


def test_pieces_spell_the_token(each, other) -> None:
    keys = [other.keys[index] for index in match(each, other).missing if index in other.keys]
    found = segment(each, keys)
    assert all(spelled(each, pieces) == expected(each, key) for key, pieces in zip(keys, found, strict=True) if pieces)
    texts = set(each.texts.values())
    for key, pieces in zip(keys, found, strict=True):
        if not pieces:  # these two have no bytes, and so cannot spell everything
            wanted = expected(each, key)
            assert each.name in ("xglm", "bert") and not (wanted and can_spell(texts, wanted))


def test_the_token_itself_where_the_source_has_it(each) -> None:
    for index, pieces in zip(each.keys, segment(each, list(each.keys.values())), strict=True):
        assert spelled(each, pieces) == each.keys[index].text


def test_never_the_token_itself_without_whole(each) -> None:
    keys = list(each.keys.values())
    found = segment(each, keys, without_whole=True)
    for key, pieces in zip(keys, found, strict=True):
        assert all(each.keys[piece] != key for piece in pieces)
        if pieces:
            assert spelled(each, pieces) == key.text and len(pieces) > 1
        else:
            assert each.name in ("xglm", "bert") or len(key.text) == 1
    assert sum(map(bool, found)) > len(keys) / 5


def test_pieces_are_those_that_the_tokenizer_reads(vocabularies) -> None:
    """Merges, not the longest tokens; Llama 3's digits in threes."""
    bpe = vocabularies["llama3"]
    texts = [" Hausboote", "Straßenhaus", " 20242024", "19202", "househould,", " (große)", "\n\n", "  x"]
    keys = [Key(t[1:].encode(), True) if t[0] == " " else Key(t.encode(), False) for t in texts]
    assert segment(bpe, keys) == [bpe.tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]


def test_sentencepiece_pieces_are_those_within_a_text(vocabularies) -> None:
    for name in ("llama2", "metaspace", "gemma", "xglm"):
        source = vocabularies[name]
        inside = source.tokenizer("a Straßenhaus", add_special_tokens=False)["input_ids"]
        alone = source.tokenizer("a", add_special_tokens=False)["input_ids"]
        assert inside[: len(alone)] == alone
        assert segment(source, [Key("Straßenhaus".encode(), True)]) == [inside[len(alone) :]]


def test_a_cut_character_is_its_bytes(vocabularies) -> None:
    for name in ("gpt2", "llama2"):
        source = vocabularies[name]
        half = Key(b"\xf0\x9f\x98", False)
        assert spelled(source, segment(source, [half])[0]) == half.text
    assert segment(vocabularies["bert"], [half]) == [[]]


def test_a_space_put_in_front_by_the_tokenizer_is_no_piece(vocabularies) -> None:
    source = vocabularies["prefix-space"]
    text = "greend"  # the longest tokens would be "green" and "d"
    read = source.tokenizer(text, add_special_tokens=False)["input_ids"]
    assert source.texts[read[0]].startswith(b" ")
    pieces = segment(source, [Key(text.encode(), False)])[0]
    assert pieces == [piece.id for piece in source.tokenizer.backend_tokenizer.model.tokenize(text)]
    assert spelled(source, pieces) == text.encode()


def test_padding_and_truncation_in_the_file_change_nothing(make) -> None:
    tokenizer = make("llama3")
    tokenizer.backend_tokenizer.enable_padding(length=12)
    tokenizer.backend_tokenizer.enable_truncation(1)
    keys = [Key(b"9202", False), Key(b"housegreen", False)]
    plain = Vocabulary.read(make("llama3"), "x")
    assert segment(Vocabulary.read(tokenizer, "x"), keys) == segment(plain, keys)


def test_a_model_that_knows_no_unknown_token() -> None:
    """The library raises a bare Exception there."""
    tokenizer = Tokenizer(models.Unigram([("▁", -1.0), ("a", -2.0)]))
    source = Vocabulary.read(PreTrainedTokenizerFast(tokenizer_object=tokenizer), "x")
    assert segment(source, [Key(b"a", True), Key(b"ab", False)]) == [[0, 1], []]


def test_a_special_token_in_the_text_is_text(vocabularies) -> None:
    source = vocabularies["gpt2"]
    key = Key(b"<|endoftext|>", False)
    assert spelled(source, segment(source, [key])[0]) == key.text


def test_a_bracket_after_a_space_for_word_pieces(vocabularies) -> None:
    bert = vocabularies["bert"]
    assert segment(bert, [Key(b"(", True), Key(b"", True), Key(b"", False)]) == [[bert.ids["("]], [], []]


class Letters(PreTrainedTokenizer):
    """A tokenizer written in Python that reads letter by letter."""

    def __init__(self, **kwargs) -> None:
        self.letters = {token: i for i, token in enumerate(["▁", "▁ab", "a", "b", "c", "▁a", "bc", "ß"])}
        super().__init__(**kwargs)

    @property
    def vocab_size(self) -> int:
        return len(self.letters)

    def get_vocab(self) -> dict[str, int]:
        return self.letters | self.added_tokens_encoder

    def _tokenize(self, text: str, **kwargs) -> list[str]:
        return list(text.replace(" ", "▁"))

    def _convert_token_to_id(self, token: str) -> int | None:
        return self.letters.get(token)

    def _convert_id_to_token(self, index: int) -> str:
        return list(self.letters)[index]


def test_a_slow_tokenizer_reads_itself() -> None:
    source = Vocabulary.read(Letters(), "x")
    keys = [Key(b"abc", True), Key("aß".encode(), False), Key(b"ab", True), Key(b"ax", False)]
    assert segment(source, keys) == [[0, 2, 3, 4], [2, 7], [0, 2, 3], []]
    assert segment(source, keys[2:3], without_whole=True) == [[5, 3]]


def test_a_walk_that_would_get_stuck_goes_round() -> None:
    """ "ab" first would leave "c", which no token spells."""
    vocab = {"ab": 0, "a": 1, "bc": 2, "Ġx": 3}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="a"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    source = Vocabulary.read(PreTrainedTokenizerFast(tokenizer_object=tokenizer), "x")
    assert segment(source, [Key(b"abc", False), Key(b"abcd", False)]) == [[1, 2], []]
