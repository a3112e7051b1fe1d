from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from transformers import AutoTokenizer, GPT2TokenizerFast

from clp_transfer.errors import UserError
from clp_transfer.packed import PackedCorpus
from clp_transfer.prepare.bpe import END_OF_TEXT, save_bpe, train_bpe
from clp_transfer.prepare.packs import open_tokenizer, pack

WORDS = "Straße über große Häuser der die das Baum im Wald mit Köln und Öl 1984 »so« (auch)"
HARD = [
    "über Köln",
    "  zwei  Leerzeichen\tund\nZeilen\r\n ",
    f"vor{END_OF_TEXT}nach {END_OF_TEXT}",
    "😀 e\u0301 ﬀ \u200b 漢字 \x00",
    "don't — it's",
]


def texts() -> list[str]:
    draw = random.Random(0)
    return [" ".join(draw.choices(WORDS.split(), k=12)) for _ in range(200)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer") / "target"
    save_bpe(train_bpe(texts(), 310, name="target"), path)
    return path


def test_the_tokenizer_loads_and_its_special_token_is_id_0(folder: Path):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert len(tokenizer) == 310
    special = (tokenizer.bos_token, tokenizer.eos_token, tokenizer.unk_token, tokenizer.pad_token)
    assert special == (END_OF_TEXT,) * 4
    assert tokenizer.eos_token_id == 0
    for text in HARD:
        assert tokenizer.decode(tokenizer(text).input_ids) == text


def test_tokens_are_those_of_gpt2s_tokenizer_with_the_same_merges(folder: Path, tmp_path: Path):
    # The peer builds its own pre-tokenizer and decoder around the same vocabulary and merges.
    model = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    vocab = {**model["vocab"], END_OF_TEXT: 0}
    peer = GPT2TokenizerFast(vocab=vocab, merges=[tuple(m) for m in model["merges"]], add_prefix_space=False)
    ours = AutoTokenizer.from_pretrained(folder)
    for text in [*texts()[:20], *HARD]:
        assert ours(text).input_ids == peer(text).input_ids


def test_training_twice_gives_the_same_bytes(folder: Path, tmp_path: Path):
    save_bpe(train_bpe(texts(), 310, name="target"), tmp_path / "again")
    for path in folder.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()


def test_a_vocabulary_larger_than_the_text_supports_is_refused_with_both_numbers():
    with pytest.raises(UserError, match=r"tokenizer t: vocab_size=5000, but its text supports (\d+) entries") as error:
        train_bpe(texts(), 5000, name="t")
    reached = int(error.value.problem.split()[-2])
    assert train_bpe(texts(), reached, name="t").get_vocab_size() == reached
    with pytest.raises(UserError):
        train_bpe(texts(), reached + 1, name="t")


def test_a_vocabulary_without_room_for_the_bytes_is_refused():
    with pytest.raises(UserError, match="vocab_size=256 is less than the 257"):
        train_bpe(texts(), 256, name="t")


def test_packs_give_back_the_texts_exactly(folder: Path, tmp_path: Path):
    corpus = tmp_path / "validation.jsonl"
    originals = [*HARD, *texts()]
    corpus.write_text("".join(json.dumps({"id": "", "text": t}) + "\n" for t in originals), encoding="utf-8")
    opened = open_tokenizer(folder)
    info = pack(corpus, opened, tmp_path / "pack")
    packed = PackedCorpus(tmp_path / "pack")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    documents = [d.tolist() for d in packed.iter_documents()]
    assert [tokenizer.decode(d) for d in documents] == originals
    # The characters of the special token inside a text never become the separator.
    assert not any(0 in d for d in documents)
    assert (packed.tokens == 0).sum() == len(originals) == info["documents"]
    assert info["bytes"] == sum(len(t.encode()) for t in originals)
    assert info["tokenizer"] == opened.digest


@pytest.mark.parametrize("special", [None, "<end>"])
def test_the_separator_without_an_end_of_text_token(folder: Path, tmp_path: Path, special: str | None):
    content = (folder / "tokenizer.json").read_text(encoding="utf-8")
    (tmp_path / "tokenizer.json").write_text(content.replace(END_OF_TEXT, "<end>"), encoding="utf-8")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": special}))
    if special is None:
        with pytest.raises(UserError, match="neither"):
            open_tokenizer(tmp_path)
    else:
        assert open_tokenizer(tmp_path).eos_id == 0
