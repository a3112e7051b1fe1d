"""Text to packed tokens against `datasets.map` and `group_texts`, the recipe of transformers' run_clm."""

from __future__ import annotations

import tempfile
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from clp_transfer.bench.memory import MEGABYTE, peak_bytes, run_alone
from clp_transfer.bench.rows import Row, compare, installed, interleaved, missing, seconds
from clp_transfer.bench.text import documents, write_corpus
from clp_transfer.packed import PackedCorpus
from clp_transfer.prepare.bpe import END_OF_TEXT, save_bpe, train_bpe
from clp_transfer.prepare.packs import open_tokenizer, pack

PEER = "datasets.map + group_texts"
BLOCK = 128
SPEED_BAR = 25.0


def run(quick: bool) -> list[Row]:
    """Measure both in processes of their own; raises AssertionError unless their ids are identical."""
    size, vocabulary, repeats = (60_000, 400, 1) if quick else (8_000_000, 8_192, 3)
    with_peer = installed("datasets")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        texts = list(documents(size, seed=1))
        write_corpus(root / "corpus.jsonl", texts)
        save_bpe(train_bpe(texts, vocabulary, name="bench"), root / "tokenizer")
        found: dict[str, list[dict[str, Any]]] = {"ours": [], "theirs": []}

        def measured(side: str) -> float:
            values = run_alone(f"{__name__}:{side}", {"root": folder})
            found[side].append(values)
            return values["seconds"]

        sides = ["ours", "theirs"] if with_peer else ["ours"]
        medians = interleaved([lambda side=side: measured(side) for side in sides], repeats)  # type: ignore[misc]
        if with_peer:
            _same_ids(root)
    size = sum(len(text.encode()) for text in texts)
    figures = [_figures(size, time, found[side][-1]) for side, time in zip(sides, medians, strict=True)]
    return _rows(size, vocabulary, figures[0], figures[1] if with_peer else None)


def _figures(size: int, time: float, last: dict[str, Any]) -> dict[str, float]:
    return {
        "speed": size / MEGABYTE / time,
        "memory": last["peak_bytes"] / MEGABYTE,
        "disk": last["disk_bytes"] / size,
    }


def _rows(size: int, vocabulary: int, ours: dict[str, float], theirs: dict[str, float] | None) -> list[Row]:
    peer = theirs or {}
    what = f"{size / MEGABYTE:.2g} MB of generated text, byte-level BPE of {vocabulary:,}"
    shared: dict[str, Any] = {"peer_name": PEER, "note": None if theirs else missing("datasets")}
    return [
        compare(
            f"text to packed tokens, {what}",
            "MB/s",
            ours["speed"],
            peer.get("speed"),
            bar=SPEED_BAR,
            more_is_better=True,
            **shared,
        ),
        compare(f"peak memory of the process, {what}", "MB", ours["memory"], peer.get("memory"), **shared),
        compare(f"bytes written per byte of text, {what}", "B/B", ours["disk"], peer.get("disk"), **shared),
    ]


def ours(root: str) -> dict[str, float]:
    """Our packing: seconds, and the bytes it wrote."""
    folder = Path(root)
    prefix = folder / "ours" / "train"
    time = seconds(lambda: pack(folder / "corpus.jsonl", open_tokenizer(folder / "tokenizer"), prefix))
    return {"seconds": time, "disk_bytes": _written(prefix.parent)}


def theirs(root: str) -> dict[str, float]:
    """run_clm's way in one process: tokenise by `map`, then concatenate and cut by `map`; all in Arrow files.

    Each text gets the end-of-text that our packs have. The ids are saved for comparison, outside the timing.
    """
    import datasets
    from transformers import AutoTokenizer

    datasets.disable_progress_bars()
    folder = Path(root)
    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
    cache = tempfile.mkdtemp(dir=folder)
    kept: list[Any] = []

    def tokenize(batch: dict[str, list[Any]]) -> Any:
        return tokenizer([text + END_OF_TEXT for text in batch["text"]])

    def work() -> None:
        raw = datasets.Dataset.from_json(str(folder / "corpus.jsonl"), cache_dir=cache)
        tokenised = raw.map(tokenize, batched=True, remove_columns=raw.column_names)
        kept.extend([tokenised, tokenised.map(group_texts, batched=True)])

    time = seconds(work)
    peak, written = peak_bytes(), _written(Path(cache))
    np.save(folder / "theirs.npy", np.concatenate(kept[0].with_format("numpy")["input_ids"][:]))
    return {"seconds": time, "disk_bytes": written, "peak_bytes": peak}


def group_texts(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """run_clm's second step: concatenate a batch's texts, cut it into blocks, drop the rest, copy the labels."""
    joined = {key: list(chain(*values)) for key, values in batch.items()}
    total = len(joined["input_ids"]) // BLOCK * BLOCK
    cut = {key: [values[i : i + BLOCK] for i in range(0, total, BLOCK)] for key, values in joined.items()}
    return {**cut, "labels": cut["input_ids"].copy()}


def _written(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _same_ids(root: Path) -> None:
    ours_ids, peer_ids = PackedCorpus(root / "ours" / "train").tokens, np.load(root / "theirs.npy")
    assert np.array_equal(ours_ids, peer_ids), "our pack's ids and those of datasets.map differ"
