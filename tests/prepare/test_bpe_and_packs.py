"""Trained tokenizers are what was asked for; packs hold exactly the texts, also after a run was killed."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, GPT2TokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode

from clp_transfer.errors import UserError
from clp_transfer.packed import BYTES, WORDS, PackedCorpus, write_pack
from clp_transfer.prepare import packs
from clp_transfer.prepare.bpe import END_OF_TEXT, sample_texts, save_bpe, train_bpe
from clp_transfer.prepare.chunks import chunk_path, write_chunk
from clp_transfer.prepare.packs import open_tokenizer, pack, packed_bytes

GERMAN = "Straße über große Häuser der die das Baum im Wald mit Köln und Öl 1984 »so« (auch)"
HARD = [
    "über Köln",
    "  zwei  Leerzeichen\tund\nZeilen\r\n ",
    f"vor{END_OF_TEXT}nach {END_OF_TEXT}",
    "😀 e\u0301 ﬀ \u200b 漢字 \x00",
    "don't — it's",
]


BYTE_OF = {character: byte for byte, character in bytes_to_unicode().items()}


def write_texts(folder: Path, originals: list[str], each: int) -> None:
    """Texts as chunks of so many."""
    for number, start in enumerate(range(0, len(originals), each)):
        part = originals[start : start + each]
        write_chunk(chunk_path(folder, number), [str(start + i) for i in range(len(part))], part)


def texts() -> list[str]:
    draw = random.Random(0)
    return [" ".join(draw.choices(GERMAN.split(), k=12)) for _ in range(200)]


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


def test_gpt2_training_is_that_of_one_plain_list(folder: Path):
    plain = Tokenizer(models.BPE())
    plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    plain.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=310, min_frequency=2, special_tokens=[END_OF_TEXT], initial_alphabet=alphabet, show_progress=False
    )
    plain.train_from_iterator(texts(), trainer)
    assert train_bpe(iter(texts()), 310, name="t").to_str() == plain.to_str()


def test_blooms_pre_tokenization():
    split = train_bpe(texts(), 310, name="t", pre_tokenizer="bloom").pre_tokenizer
    for text in [*texts()[:20], *HARD, "a(b|c) d.  e, f…g!?", "12,5 Prozent", "你好，世界。", ""]:
        # Its nested class is the plain one without the inner brackets; what lies between the words is kept.
        words = re.split(r"( ?[^(\s|.,!?…。，、।۔،)]+)", text)
        pieces = [bytes(BYTE_OF[c] for c in piece).decode() for piece, _ in split.pre_tokenize_str(text)]
        assert pieces == [word for word in words if word]


def test_both_pre_tokenizations_give_texts_back(tmp_path: Path):
    save_bpe(train_bpe(texts(), 310, name="t", pre_tokenizer="bloom"), tmp_path / "bloom")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "bloom")
    for text in [*texts(), *HARD]:
        assert tokenizer.decode(tokenizer(text).input_ids) == text


def test_an_unknown_pre_tokenization_is_refused():
    with pytest.raises(UserError, match="pre_tokenizer=llama is not known"):
        train_bpe(texts(), 310, name="t", pre_tokenizer="llama")


@pytest.mark.parametrize("share", [0.03, 0.2, 0.77])
def test_a_sample_is_spread_evenly(tmp_path: Path, share: float):
    draw = random.Random(1)
    everything = [f"{number} " + "ü" * draw.randint(0, 500) for number in range(3000)]
    write_texts(tmp_path / "train", everything, 700)
    total = sum(len(t.encode()) for t in everything)
    sample = list(sample_texts(tmp_path / "train", int(share * total)))
    assert sample == list(sample_texts(tmp_path / "train", int(share * total)))
    assert sum(len(t.encode()) for t in sample) == pytest.approx(share * total, rel=0.05)
    for part in range(3):  # a third of it from each third
        numbers = [int(t.split()[0]) for t in sample]
        inside = sum(len(everything[n].encode()) for n in numbers if n // 1000 == part)
        assert inside == pytest.approx(share * total / 3, rel=0.15)


@pytest.mark.parametrize("size", [None, 10**9])
def test_a_sample_of_everything(tmp_path: Path, size: int | None):
    write_texts(tmp_path / "train", texts(), 60)
    assert list(sample_texts(tmp_path / "train", size)) == texts()


def test_a_sample_of_a_few_long_texts_has_one(tmp_path: Path):
    write_texts(tmp_path / "train", ["a" * 50_000, "b" * 50_000], 1)
    assert list(sample_texts(tmp_path / "train", 10)) == ["a" * 50_000]


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


@pytest.mark.parametrize("encoder", ["auto", "tokenizers"])
def test_packs_give_back_the_texts_exactly(folder: Path, tmp_path: Path, encoder: str):
    originals = ["", *HARD, *texts(), "\n"]
    write_texts(tmp_path / "validation", originals, 50)
    opened = open_tokenizer(folder)
    info = pack(tmp_path / "validation", opened, tmp_path / "pack", encoder=encoder)
    packed = PackedCorpus(tmp_path / "pack")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    documents = [d.tolist() for d in packed.iter_documents()]
    assert [tokenizer.decode(d) for d in documents] == originals
    # The characters of the special token inside a text never become the separator.
    assert not any(0 in d for d in documents)
    assert (packed.tokens == 0).sum() == len(originals) == info["documents"]
    assert packed.documents[:, BYTES].tolist() == [len(t.encode()) for t in originals]
    assert packed.documents[:, WORDS].tolist() == [len(re.split(r"\s+", t)) for t in originals]
    assert (info["bytes"], info["tokenizer"]) == (sum(len(t.encode()) for t in originals), opened.digest)
    assert info["encoder"].split()[0] in ("tokenizers", "fastokens", "gigatoken")
    assert packed.info == {key: value for key, value in info.items() if key != "encoder"}


def test_a_pack_is_what_write_pack_writes(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(packs, "BATCH_BYTES", 100)
    write_texts(tmp_path / "train", [*texts(), *HARD], 30)
    opened = open_tokenizer(folder)
    pairs = ((t, opened.backend.encode(t, add_special_tokens=False).ids) for t in [*texts(), *HARD])
    write_pack(tmp_path / "one", pairs, eos_id=0, vocab_size=310, tokenizer=opened.digest)
    heard: list[int] = []
    info = pack(tmp_path / "train", opened, tmp_path / "other", progress=heard.append)
    for suffix in (".bin", ".docs.npy"):
        assert (tmp_path / f"one{suffix}").read_bytes() == (tmp_path / f"other{suffix}").read_bytes()
    assert heard == sorted(heard) and heard[-1] == info["bytes"] and len(heard) > 20


class Killed(BaseException):
    """Ends a run in the middle, as a signal would."""


def kill_at(size: int) -> Callable[[int], None]:
    def progress(done: int) -> None:
        if done >= size:
            raise Killed

    return progress


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Seven chunks of texts, each of several batches."""
    monkeypatch.setattr(packs, "BATCH_BYTES", 500)
    write_texts(tmp_path / "train", [*texts(), *HARD], 30)
    return tmp_path / "train"


def content(prefix: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in prefix.parent.iterdir()}


@pytest.mark.parametrize("share", [0.01, 0.2, 0.5, 0.9, 1.0])
def test_a_killed_run_goes_on_to_the_same_bytes(folder: Path, train: Path, tmp_path: Path, share: float):
    opened, whole, resumed = open_tokenizer(folder), tmp_path / "whole/train", tmp_path / "resumed/train"
    size = pack(train, opened, whole)["bytes"]
    with pytest.raises(Killed):
        pack(train, opened, resumed, progress=kill_at(int(size * share)))
    for suffix in (".bin", ".docs.npy"):  # what had not been synced: anything
        with resumed.with_suffix(suffix).open("ab") as file:
            file.write(b"garbage")
    heard: list[int] = []
    begins = packed_bytes(train, opened, resumed)
    assert begins > 0 if share > 0.2 else begins < size / 5
    pack(train, opened, resumed, progress=heard.append)
    assert begins < heard[0] < begins + 1000  # by one batch
    assert content(resumed) == content(whole)
    assert share <= 0.2 or begins > size / 7  # it did not begin anew


def test_a_run_killed_after_its_last_chunk_is_finished(folder: Path, train: Path, tmp_path: Path, monkeypatch):
    opened, whole, resumed = open_tokenizer(folder), tmp_path / "whole/train", tmp_path / "resumed/train"
    pack(train, opened, whole)
    monkeypatch.setattr(packs.PackWriter, "finish", lambda *_, **__: kill_at(0)(0))
    with pytest.raises(Killed):
        pack(train, opened, resumed)
    monkeypatch.undo()
    monkeypatch.setattr(packs, "choose", lambda *_: pytest.fail("nothing is left to encode"))
    pack(train, opened, resumed)
    assert content(resumed) == content(whole)


@pytest.mark.parametrize("change", ["texts", "tokenizer", "files"])
def test_a_killed_run_of_something_else_begins_anew(folder: Path, train: Path, tmp_path: Path, change: str):
    opened, whole, resumed = open_tokenizer(folder), tmp_path / "whole/train", tmp_path / "resumed/train"
    with pytest.raises(Killed):
        pack(train, opened, resumed, progress=kill_at(8000))
    if change == "texts":
        write_chunk(chunk_path(train, 0), ["0"], ["something else"])
    elif change == "tokenizer":
        opened = replace(opened, digest="another")
    else:
        resumed.with_suffix(".bin").write_bytes(b"")
    pack(train, opened, resumed)
    pack(train, opened, whole)
    assert content(resumed) == content(whole)


def test_a_pack_that_is_being_made_again_is_no_pack_meanwhile(folder: Path, train: Path, tmp_path: Path):
    opened = open_tokenizer(folder)
    pack(train, opened, tmp_path / "x")
    with pytest.raises(Killed):
        pack(train, opened, tmp_path / "x", progress=kill_at(1))
    with pytest.raises(UserError, match="does not exist"):
        _ = PackedCorpus(tmp_path / "x").info


def test_nothing_to_pack(folder: Path, tmp_path: Path):
    write_chunk(chunk_path(tmp_path / "empty", 0), [], [])
    with pytest.raises(UserError, match="no documents"):
        pack(tmp_path / "empty", open_tokenizer(folder), tmp_path / "x")


def test_ids_with_a_gap_get_the_wider_type(folder: Path, tmp_path: Path):
    content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    content["model"]["vocab"]["far"] = 70_000
    (tmp_path / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    opened = open_tokenizer(tmp_path)
    assert opened.size == 70_001
    write_texts(tmp_path / "train", texts(), 200)
    assert pack(tmp_path / "train", opened, tmp_path / "x", encoder="tokenizers")["dtype"] == "<u4"
