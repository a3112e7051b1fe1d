"""Target text from packs and plain files, against counts made token by token."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from tiny import tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

import clp_transfer
from clp_transfer.clp import text as module
from clp_transfer.clp.text import TargetText
from clp_transfer.clp.vocabulary.vocabulary import Vocabulary
from clp_transfer.errors import UserError
from clp_transfer.files import sha256_file
from clp_transfer.packed import PackedCorpus, write_pack
from clp_transfer.prepare.packs import open_tokenizer

# A normaliser that makes text shorter.
SHORTER = {"pattern": {"String": "Straße"}, "content": "Str"}


@pytest.fixture(scope="module")
def target(world) -> Vocabulary:
    return Vocabulary.read(AutoTokenizer.from_pretrained(world.target_tokenizer), "the target")


def write(path: Path, documents: list[str]) -> Path:
    """The documents in the form that the suffix asks for."""
    lines = [json.dumps({"id": 1, "text": text}) if path.suffix == ".jsonl" else text for text in documents]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def expected_ids(target: Vocabulary, documents: list[str]) -> list[int]:
    """One document at a time, each closed by end-of-text."""
    return [i for text in documents for i in [*target.tokenizer(text)["input_ids"], target.tokenizer.eos_token_id]]


def packed(prefix: Path, folder: Path, documents: list[str]) -> Path:
    """The documents as prepare.py packs them."""
    tokenizer = open_tokenizer(folder)
    about = {"eos_id": tokenizer.eos_id, "vocab_size": tokenizer.size, "tokenizer": tokenizer.digest}
    write_pack(prefix, [(text, tokenizer.backend.encode(text).ids) for text in documents], **about)
    return prefix


@pytest.mark.parametrize("form", ["pack", "pack.bin", "txt", "jsonl"])
def test_every_form_gives_the_same(world, target: Vocabulary, tmp_path: Path, form: str) -> None:
    documents = world.german[:350]
    path = {"pack": world.train_pack, "pack.bin": world.train_pack.with_suffix(".bin")}.get(form)
    text = TargetText(path or write(tmp_path / f"text.{form}", documents), target)
    ids = expected_ids(target, documents)
    assert text.ids.tolist() == ids
    counts = Counter(ids)
    assert text.counts.tolist() == [counts[i] for i in range(target.size)]
    assert text.sizes() == {
        "documents": len(documents),
        "tokens": len(ids),
        "bytes": sum(len(text.encode()) for text in documents),
        "words": sum(len(re.split(r"\s+", text)) for text in documents),
    }
    # A byte-level vocabulary spells every document exactly; end-of-text spells nothing.
    assert [b"".join(key.text for key in keys) for keys in text.documents()] == [text.encode() for text in documents]


def test_parts_change_nothing(world, target: Vocabulary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "text.txt", world.german)
    whole = TargetText(path, target)
    counts, sizes = whole.counts, whole.sizes()
    monkeypatch.setattr(module, "BATCH", 7)
    monkeypatch.setattr(module, "COUNTED", 13)
    parts = TargetText(path, target)
    assert np.array_equal(parts.ids, whole.ids) and parts.counts.equal(counts) and parts.sizes() == sizes


def test_head_ends_with_the_document_that_reaches_the_size(world, target: Vocabulary) -> None:
    text, documents = TargetText(world.train_pack, target), world.german[:350]
    lengths = np.cumsum([len(document.encode()) for document in documents])
    for size in (1, int(lengths[0]), int(lengths[0]) + 1, 500, 10**9):
        count = min(next((i + 1 for i, length in enumerate(lengths) if length >= size), 10**9), len(documents))
        ids, index = text.head(size)
        assert len(index) == count
        assert ids.tolist() == expected_ids(target, documents[:count])


def test_blank_lines_and_spaces_are_no_text(target: Vocabulary, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_bytes(b"\xef\xbb\xbf  Das Haus \r\n\r\n   \nDie Stra\xc3\x9fe")
    (tmp_path / "text.jsonl").write_bytes(
        b'\xef\xbb\xbf{"text": " Das Haus "}\r\n\n{"text": "  "}\n{"text": "Die Stra\\u00dfe"}'
    )
    for name in ("text.txt", "text.jsonl"):
        text = TargetText(tmp_path / name, target)
        assert text.ids.tolist() == expected_ids(target, ["Das Haus", "Die Straße"])
        assert text.sizes()["documents"] == 2


def test_only_the_first_megabytes_are_read(target: Vocabulary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the last line that lies within them; of a single line as far as they go, a cut character left out."""
    lines = write(tmp_path / "lines.txt", ["Der Baum", "Die Tür", "Der Hund"])
    single = write(tmp_path / "single.txt", ["ü" * 100])
    exact = len("Der Baum\nDie Tür\n".encode())
    for size, expected in ((exact, 2), (exact + 3, 2), (exact - 1, 1), (exact + 9, 3), (10**6, 3)):
        monkeypatch.setattr(module, "PLAIN_BYTES", size)
        assert TargetText(lines, target).sizes()["documents"] == expected, size
    monkeypatch.setattr(module, "PLAIN_BYTES", 51)
    assert TargetText(single, target).sizes()["bytes"] == 50


def test_a_plain_file_goes_before_a_pack_of_its_name(world, target: Vocabulary, tmp_path: Path) -> None:
    for path in world.train_pack.parent.glob("train.*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    plain = write(tmp_path / "train.txt", ["Das Haus"])
    assert TargetText(plain, target).sizes()["documents"] == 1
    assert TargetText(tmp_path / "train", target).sizes()["documents"] == 350


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("bad.jsonl", b'{"text": "gut"}\n{"text": ', r"bad\.jsonl, line 2 is no JSON object with a text"),
        ("missing.jsonl", b'\n\n{"body": "gut"}\n', r"missing\.jsonl, line 3 is no JSON object with a text"),
        ("list.jsonl", b'["text"]\n', r"line 1 is no JSON object"),
        ("null.jsonl", b'{"text": null}\n', r"line 1 is no JSON object"),
        ("number.jsonl", b'{"text": 5}\n', r"line 1 is no JSON object"),
        ("half.jsonl", b'{"text": "\\ud83d"}\n', r"line 1 is no JSON object"),
        ("empty.txt", b"", r"empty\.txt has no text"),
        ("blank.txt", b" \n\t\n\n", r"blank\.txt has no text"),
        ("blank.jsonl", b'{"text": " "}\n', r"blank\.jsonl has no text"),
        ("latin.txt", "Straße".encode("latin-1"), r"latin\.txt is not UTF-8"),
        ("cut.txt", "Straß".encode()[:-1], r"cut\.txt is not UTF-8"),
    ],
)
def test_what_is_refused(target: Vocabulary, tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        _ = TargetText(tmp_path / name, target).ids


def test_a_missing_file_is_refused(target: Vocabulary, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no text .*nothing"):
        _ = TargetText(tmp_path / "nothing", target).ids


def test_a_pack_of_another_tokenizer_is_refused(world, target: Vocabulary, tmp_path: Path) -> None:
    """By its vocabulary's size, by what closes its documents, or by what they decode to."""
    source = Vocabulary.read(AutoTokenizer.from_pretrained(world.source_tokenizer), "the target")
    with pytest.raises(UserError, match="holds ids up to 339, the target has 330"):
        _ = TargetText(world.train_pack, source).ids
    write_pack(tmp_path / "other", [("a", [5])], eos_id=2, vocab_size=target.size, tokenizer="x")
    with pytest.raises(UserError, match="closes documents with id 2, an ordinary token"):
        _ = TargetText(tmp_path / "other", target).ids


@pytest.mark.parametrize("known", [True, False])
def test_a_pack_of_a_tokenizer_of_the_same_size_is_refused(
    world, target: Vocabulary, tmp_path: Path, known: bool
) -> None:
    """Two byte-level BPEs trained alike share their size and their end-of-text, and every id means something."""
    folder = tmp_path / "english"
    made = tokenizers.byte_level(target.size, texts=[*world.english, *tokenizers.TEXTS])
    PreTrainedTokenizerFast(tokenizer_object=made, **tokenizers.END).save_pretrained(folder)
    pack = packed(tmp_path / "pack", folder, world.english)
    english = Vocabulary.read(AutoTokenizer.from_pretrained(folder), "the target")
    assert (english.size, english.roles["eos"]) == (target.size, target.roles["eos"])
    assert TargetText(pack, english, folder).sizes()["documents"] == len(world.english)
    with pytest.raises(UserError, match=r"packed with another tokenizer than the target's: document \d+ has"):
        _ = TargetText(pack, target, world.target_tokenizer if known else None).ids


def test_a_transfer_knows_where_its_tokenizer_lies(world, tmp_path: Path) -> None:
    """One of its own tokenizer.json is taken even where it does not decode: its text is normalised."""
    folder = tmp_path / "helper"
    shutil.copytree(world.helper, folder)
    settings = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps(settings | {"normalizer": {"type": "Replace", **SHORTER}}))
    pack = packed(tmp_path / "pack", folder, world.german)
    found = clp_transfer.transfer(world.source, folder, "ridge", text=pack, frequency_power=0.5)
    assert found.report["text"]["documents"] == len(world.german)
    target = found.ingredients.target
    with pytest.raises(UserError, match="in the target's tokens"):
        _ = TargetText(pack, target).ids


def test_a_tokenizer_that_was_saved_anew_reads_its_pack(world, target: Vocabulary, tmp_path: Path) -> None:
    """Its file has another hash and says the same."""
    settings = json.loads((world.target_tokenizer / "tokenizer.json").read_text())
    (tmp_path / "tokenizer.json").write_text(json.dumps(settings))
    assert sha256_file(tmp_path / "tokenizer.json") != PackedCorpus(world.train_pack).info["tokenizer"]
    assert TargetText(world.train_pack, target, tmp_path).ids.tolist() == expected_ids(target, world.german[:350])


def test_a_chat_tokenizers_pack_is_closed_by_its_end_of_text(world, tmp_path: Path) -> None:
    """What ends a turn is the tokenizer's end-of-sequence, and is not what prepare.py closes documents with."""
    chat = AutoTokenizer.from_pretrained(world.target_tokenizer)
    chat.add_special_tokens({"eos_token": "<|im_end|>"})
    chat.save_pretrained(tmp_path / "chat")
    pack = packed(tmp_path / "pack", tmp_path / "chat", world.german)
    target = Vocabulary.read(AutoTokenizer.from_pretrained(tmp_path / "chat"), "the target")
    end = target.special["<|endoftext|>"]
    assert target.roles["eos"] != end
    expected = [i for text in world.german for i in [*target.tokenizer(text)["input_ids"], end]]
    for folder in (tmp_path / "chat", None):
        text = TargetText(pack, target, folder)
        assert text.ids.tolist() == expected
        assert [b"".join(key.text for key in keys).decode() for keys in text.documents()] == world.german


def test_a_tokenizer_without_end_of_text(tmp_path: Path) -> None:
    tokenizer = tokenizers.make("gpt2", eos_token=None, bos_token=None)
    vocabulary = Vocabulary.read(tokenizer, "the target")
    text = TargetText(write(tmp_path / "text.txt", ["Das Haus", "Die Tür"]), vocabulary)
    ids = [tokenizer(document)["input_ids"] for document in ("Das Haus", "Die Tür")]
    assert text.ids.tolist() == ids[0] + ids[1]
    assert [b"".join(key.text for key in keys).decode() for keys in text.documents()] == ["Das Haus", "Die Tür"]


def test_a_truncating_tokenizer_reads_everything(world, tmp_path: Path) -> None:
    """Truncation and padding in a tokenizer's file are for batches of a model, not for this."""
    tokenizer = AutoTokenizer.from_pretrained(world.target_tokenizer)
    tokenizer.backend_tokenizer.enable_truncation(3)
    tokenizer.backend_tokenizer.enable_padding(length=20)
    tokenizer.model_max_length = 3
    path = write(tmp_path / "text.txt", ["Das Haus und die Straße", "Baum"])
    plain = Vocabulary.read(AutoTokenizer.from_pretrained(world.target_tokenizer), "the target")
    read = TargetText(path, Vocabulary.read(tokenizer, "the target")).ids
    assert read.tolist() == TargetText(path, plain).ids.tolist()
