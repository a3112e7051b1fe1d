"""Text to packed tokens against `datasets.map` and `group_texts`, the recipe of transformers' run_clm.

The text is generated, or real: `CLP_BENCH_CORPUS=<file>.jsonl` (or `.jsonl.xz`; several with `:` between them), one
object with a `text` a line.
"""

from __future__ import annotations

import json
import lzma
import os
import tempfile
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from clp_transfer.bench.memory import MEGABYTE, peak_bytes, run_alone
from clp_transfer.bench.rows import Row, compare, installed, missing, seconds
from clp_transfer.bench.text import documents
from clp_transfer.packed import PackedCorpus
from clp_transfer.prepare.bpe import END_OF_TEXT, save_bpe, train_bpe
from clp_transfer.prepare.chunks import CHUNK_BYTES, chunk_path, chunk_paths, iter_texts, read_texts, write_chunk
from clp_transfer.prepare.encoders.choose import choose
from clp_transfer.prepare.packs import BATCH_BYTES, open_tokenizer, pack

VARIABLE = "CLP_BENCH_CORPUS"
PEER, BARE, LIMIT = "datasets.map + group_texts", "bare encoder", "limit"
CORES = 2
BLOCK = 128
TURNS = 3
SPEED_BARS = {"gpt2": 25.0, "bloom": 12.0}
DISK_LIMIT = 0.6
# Bytes of text (most of real text: the peer takes a minute for 250 MB; enough that opening and checking a tokenizer,
# half a second, does not decide) and entries of the tokenizer.
REAL_SIZE, GENERATED_SIZE, REAL_ENTRIES, GENERATED_ENTRIES = 250_000_000, 100_000_000, 50_304, 8_192
QUICK_SIZE, QUICK_ENTRIES = 60_000, 400

# MB/s, peak in MB, bytes written per byte of text.
Figures = tuple[float | None, ...]


def run(quick: bool) -> list[Row]:
    """Measure both in processes of their own; raises AssertionError unless their ids are identical."""
    corpus = None if quick else os.environ.get(VARIABLE)
    size, entries = (REAL_SIZE, REAL_ENTRIES) if corpus else (GENERATED_SIZE, GENERATED_ENTRIES)
    if quick:
        size, entries = QUICK_SIZE, QUICK_ENTRIES
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(name) for name in corpus.split(os.pathsep)] if corpus else []
        texts = list(_real(files, size) if corpus else documents(size, seed=1))
        size = _write_chunks(Path(folder) / "texts", texts)
        for kind in SPEED_BARS:
            save_bpe(train_bpe(texts, entries, name="bench", pre_tokenizer=kind), Path(folder) / kind)
        del texts
        named = ", ".join(file.name for file in files) or "generated text"
        what = f"{size / MEGABYTE:.3g} MB of {named}, BPE of {entries:,}"
        for kind in SPEED_BARS:
            rows += _compare(Path(folder), kind, what, size, quick)
    return rows


def _real(files: list[Path], size: int) -> Iterator[str]:
    """The first texts of the files until `size` UTF-8 bytes are reached."""
    for path in files:
        with lzma.open(path, "rt", encoding="utf-8") if path.suffix == ".xz" else path.open(encoding="utf-8") as file:
            for line in file:
                text = json.loads(line)["text"]
                yield text
                size -= len(text.encode())
                if size <= 0:
                    return


def _write_chunks(folder: Path, texts: list[str]) -> int:
    """Texts as the prepare stage leaves them; their UTF-8 bytes."""
    numbers = np.cumsum([0, *(len(text.encode()) for text in texts)]) // CHUNK_BYTES
    for number in range(numbers[-1] + 1):
        start, end = np.searchsorted(numbers[:-1], [number, number + 1])
        write_chunk(chunk_path(folder, number), [str(i) for i in range(start, end)], texts[start:end])
    return sum(len(text.encode()) for text in texts)


def _compare(root: Path, kind: str, what: str, size: int, quick: bool) -> list[Row]:
    """The rows of one pre-tokenization: medians of runs that take turns, so that a machine's mood meets all sides."""
    found: dict[str, list[dict[str, Any]]] = {"ours": [], "theirs": [], "bare": []}
    for side in tuple(found) * (1 if quick else TURNS):
        if side != "theirs" or installed("datasets"):
            found[side].append(run_alone(f"{__name__}:{side}", {"root": str(root), "kind": kind}))
    if found["theirs"]:
        ours_ids, peer_ids = PackedCorpus(root / "ours" / kind).tokens, np.load(root / f"{kind}.npy")
        assert np.array_equal(ours_ids, peer_ids), "our pack's ids and those of datasets.map differ"
    figures: dict[str, Figures] = {"theirs": (None, None, None)}
    for side, results in found.items():
        if results:
            time, peak, disk = (
                median(r.get(key, 0) for r in results) for key in ("seconds", "peak_bytes", "disk_bytes")
            )
            figures[side] = size / MEGABYTE / time, peak / MEGABYTE, disk / size
    note = f"our encoder: {found['ours'][0]['encoder']}" if found["theirs"] else missing("datasets")
    what = f"{what}, {kind} pre-tokenizer, {CORES} cores"
    return _rows(what, SPEED_BARS[kind], figures["ours"], figures["theirs"], figures["bare"][0], note)


def _rows(what: str, bar: float, ours: Figures, theirs: Figures, bare: float | None, note: str) -> list[Row]:
    peer: dict[str, Any] = {"peer_name": PEER, "note": note}
    speed, disk = f"text to packed tokens, {what}", f"bytes written per byte of text, {what}"
    return [
        compare(speed, "MB/s", ours[0], theirs[0], bar=bar, more_is_better=True, **peer),
        compare(speed, "MB/s", ours[0], bare, BARE, more_is_better=True),
        compare(f"peak memory of the process, {what}", "MB", ours[1], theirs[1], **peer),
        compare(disk, "B/B", ours[2], theirs[2], **peer),
        compare(disk, "B/B", ours[2], DISK_LIMIT, LIMIT, bar=1.0),
    ]


def _use_two_cores() -> None:
    """Keep this process, and the threads it will start, on two cores, where the system lets it choose."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])


def ours(root: str, kind: str) -> dict[str, Any]:
    """Our packing, the tokenizer opened and its encoder checked: seconds, and the bytes it wrote."""
    _use_two_cores()
    folder = Path(root)
    prefix = folder / "ours" / kind
    made: list[dict[str, Any]] = []
    time = seconds(lambda: made.append(pack(folder / "texts", open_tokenizer(folder / kind), prefix)))
    written = sum(path.stat().st_size for path in prefix.parent.glob(f"{kind}.*"))
    return {"seconds": time, "disk_bytes": written, "encoder": made[0]["encoder"]}


def bare(root: str, kind: str) -> dict[str, float]:
    """What our encoder takes by itself: loaded, its texts in memory, the ids thrown away."""
    _use_two_cores()
    folder = Path(root)
    chunks = chunk_paths(folder / "texts")
    encoder = choose(open_tokenizer(folder / kind).backend, "auto", iter_texts(folder / "texts"))
    time = 0.0
    for texts in chain.from_iterable(read_texts(path, BATCH_BYTES) for path in chunks):
        batch = texts.to_pylist()
        time += seconds(lambda batch=batch: encoder.encode(batch))  # type: ignore[misc]
    return {"seconds": time}


def theirs(root: str, kind: str) -> dict[str, float]:
    """run_clm's way in one process: tokenise by `map`, then concatenate and cut by `map`; all in Arrow files.

    Each text gets the end-of-text that our packs have. The ids are saved for comparison, outside the timing.
    """
    import datasets
    from transformers import AutoTokenizer

    _use_two_cores()
    datasets.disable_progress_bars()
    folder = Path(root)
    cache = tempfile.mkdtemp(dir=folder)
    kept: list[Any] = []

    def work() -> None:
        tokenizer = AutoTokenizer.from_pretrained(folder / kind)
        raw = datasets.Dataset.from_parquet([str(path) for path in chunk_paths(folder / "texts")], cache_dir=cache)
        tokenised = raw.map(
            lambda batch: tokenizer([text + END_OF_TEXT for text in batch["text"]]),
            batched=True,
            remove_columns=raw.column_names,
        )
        kept.extend([tokenised, tokenised.map(group_texts, batched=True)])

    time = seconds(work)
    peak, written = peak_bytes(), sum(path.stat().st_size for path in Path(cache).rglob("*") if path.is_file())
    ids = kept[0].data.column("input_ids").combine_chunks().flatten()
    np.save(folder / f"{kind}.npy", ids.to_numpy(zero_copy_only=False))
    return {"seconds": time, "disk_bytes": written, "peak_bytes": peak}


def group_texts(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """run_clm's second step: concatenate a batch's texts, cut it into blocks, drop the rest, copy the labels."""
    joined = {key: list(chain(*values)) for key, values in batch.items()}
    total = len(joined["input_ids"]) // BLOCK * BLOCK
    cut = {key: [values[i : i + BLOCK] for i in range(0, total, BLOCK)] for key, values in joined.items()}
    return {**cut, "labels": cut["input_ids"].copy()}
