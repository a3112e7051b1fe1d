"""The pack format: what goes in comes out, and its totals are right."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from clp_transfer.errors import UserError
from clp_transfer.packed import PackedCorpus, count_words, write_pack

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
