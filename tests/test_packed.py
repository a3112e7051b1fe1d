"""The pack format: what goes in comes out, and its totals are right."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from clp_transfer.errors import UserError
from clp_transfer.packed import PackedCorpus, PackWriter, count_words, write_pack
from clp_transfer.prepare.encoders.hostile import hostile_texts

TEXTS = [("ein Haus", [5, 6]), ("", []), ("Straße  neu", [7, 8, 9])]


@pytest.mark.parametrize(("vocab_size", "dtype"), [(100, "<u2"), (65_536, "<u2"), (65_537, "<u4")])
def test_round_trip(tmp_path: Path, vocab_size: int, dtype: str) -> None:
    info = write_pack(tmp_path / "p" / "train", TEXTS, eos_id=0, vocab_size=vocab_size, tokenizer="t")
    pack = PackedCorpus(tmp_path / "p" / "train")
    assert [list(d) for d in pack.iter_documents()] == [ids for _, ids in TEXTS]
    assert pack.tokens.dtype == np.dtype(dtype) and pack.info == info
    assert (info["tokens"], info["documents"]) == (8, 3)
    assert info["bytes"] == sum(len(t.encode()) for t, _ in TEXTS)
    assert info["words"] == sum(len(re.split(r"\s+", t)) for t, _ in TEXTS)


def test_words_as_the_harness_counts_them() -> None:
    from lm_eval.tasks.wikitext import preprocess_wikitext

    for text in ("ein Haus", "", " zwei  Wörter ", "a\nb"):
        counted = preprocess_wikitext.process_results({"page": text}, (0.0,))["word_perplexity"][1]
        assert count_words(text) == counted


def test_words_are_those_of_re() -> None:
    whitespace = [chr(point) for point in range(0x110000) if re.match(r"\s", chr(point))]
    for text in [*hostile_texts(), *whitespace, *(f" {c}x{c}{c}y" for c in whitespace)]:
        assert count_words(text) == len(re.split(r"\s+", text))


def test_the_index_is_what_numpy_saves(tmp_path: Path) -> None:
    write_pack(tmp_path / "x", TEXTS, eos_id=0, vocab_size=10, tokenizer="t")
    np.save(tmp_path / "saved.npy", np.array([[3, 8, 2], [4, 0, 1], [8, 12, 2]], np.int64))
    assert (tmp_path / "x.docs.npy").read_bytes() == (tmp_path / "saved.npy").read_bytes()


def test_a_writer_goes_on_from_what_was_synced(tmp_path: Path) -> None:
    about = {"eos_id": 0, "vocab_size": 10, "tokenizer": "t"}
    write_pack(tmp_path / "whole", TEXTS, **about)
    one, ones = np.array([5, 6]), [np.array([n]) for n in (2, 8, 2)]
    with PackWriter(tmp_path / "x", **about) as writer:
        writer.append(one, *ones)
        writer.sync()
        totals = writer.totals
        writer.append(one, *ones)  # lost
    assert PackWriter.can_go_on(tmp_path / "x", totals, 10)
    with PackWriter(tmp_path / "x", **about, totals=totals) as writer:
        writer.append(np.array([7, 8, 9]), np.array([0, 3]), np.array([0, 12]), np.array([1, 2]))
        writer.finish()
    for suffix in (".bin", ".docs.npy", ".json"):
        assert (tmp_path / f"x{suffix}").read_bytes() == (tmp_path / f"whole{suffix}").read_bytes()
    (tmp_path / "x.bin").write_bytes(b"")
    assert not PackWriter.can_go_on(tmp_path / "x", totals, 10)


def test_an_id_that_does_not_fit(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="65536"):
        write_pack(tmp_path / "x", [("a", [65_536])], eos_id=0, vocab_size=10, tokenizer="t")


def test_head_takes_whole_documents(tmp_path: Path) -> None:
    write_pack(tmp_path / "x", TEXTS, eos_id=0, vocab_size=10, tokenizer="t")
    pack = PackedCorpus(tmp_path / "x")
    tokens, documents = pack.head(10)
    assert list(tokens) == [5, 6, 0, 0] and len(documents) == 2
    assert len(pack.head(None)[0]) == 8
    with pytest.raises(UserError, match="longer than 3 bytes"):
        pack.head(3)


def test_a_truncated_token_file_is_noticed(tmp_path: Path) -> None:
    write_pack(tmp_path / "x", TEXTS, eos_id=0, vocab_size=10, tokenizer="t")
    (tmp_path / "x.bin").write_bytes(b"12")
    with pytest.raises(UserError, match="2 bytes, 16 expected"):
        _ = PackedCorpus(tmp_path / "x").tokens


def test_no_documents(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no documents"):
        write_pack(tmp_path / "x", [], eos_id=0, vocab_size=10, tokenizer="t")
