"""Corpora as packed token ids: chunks of text in, one pack out, streaming; a killed run goes on at its last chunk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from tokenizers import Tokenizer

from clp_transfer.errors import UserError
from clp_transfer.files import read_json, sha256_file, sha256_json, write_json
from clp_transfer.packed import TOTALS, PackWriter
from clp_transfer.prepare.ahead import worked_ahead
from clp_transfer.prepare.bpe import END_OF_TEXT
from clp_transfer.prepare.chunks import chunk_paths, iter_texts, read_texts
from clp_transfer.prepare.encoders import Encoded, Encoder
from clp_transfer.prepare.encoders.choose import choose
from clp_transfer.prepare.words import count_bytes_and_words, cut

# About how much text is encoded at once, and how many such batches are read ahead: enough for the time it takes to load
# an encoder. Two are encoded at the same time: handing one over, or a single long text, keeps only one processor busy.
BATCH_BYTES = 4_000_000
AHEAD = 16
AT_ONCE = 2
NOTHING = np.zeros(0, np.int64)


@dataclass(frozen=True)
class PackTokenizer:
    """A tokenizer as packing needs it: the fast backend, the separator's id, the file's hash."""

    backend: Tokenizer
    eos_id: int
    digest: str

    @property
    def vocabulary(self) -> set[str]:
        """All token strings, added tokens included, in the byte-level alphabet."""
        return set(self.backend.get_vocab())

    @cached_property
    def size(self) -> int:
        """One more than the largest id: the number of entries, unless ids are left out."""
        return max(self.backend.get_vocab().values()) + 1


def open_tokenizer(folder: Path) -> PackTokenizer:
    """Open a saved tokenizer for packing.

    Documents are separated by `<|endoftext|>` where the tokenizer has it, else by its end-of-sequence token:
    a chat model's end-of-sequence closes a turn and says nothing about documents. A text that holds the
    literal characters of a special token is encoded as plain characters, never as the token. Raises UserError where
    there is no fast tokenizer, or neither of the two tokens.
    """
    file = tokenizer_file(folder)
    try:
        backend = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises no other
        raise UserError(f"{file} cannot be read: {error}", "save the tokenizer again, or use another one") from error
    backend.encode_special_tokens = True
    backend.no_truncation()
    backend.no_padding()
    eos_id = backend.token_to_id(END_OF_TEXT)
    if eos_id is None:
        eos_id = backend.token_to_id(_end_of_sequence(folder) or "")
    if eos_id is None:
        raise UserError(
            f"{folder} has neither {END_OF_TEXT} nor an end-of-sequence token", "use another model's tokenizer"
        )
    return PackTokenizer(backend, eos_id, sha256_file(file))


def tokenizer_file(folder: Path) -> Path:
    """The file of a fast tokenizer; raises UserError where the folder has none."""
    file = folder / "tokenizer.json"
    if not file.is_file():
        raise UserError(
            f"{folder} has no tokenizer.json, which a fast tokenizer has",
            "load it with transformers' AutoTokenizer and save_pretrained it to another folder, or use another one",
        )
    return file


def _end_of_sequence(folder: Path) -> str | None:
    """What the tokenizer's config calls its end-of-sequence token: a string, or an added token with its properties."""
    config = folder / "tokenizer_config.json"
    named = read_json(config).get("eos_token") if config.is_file() else None
    if isinstance(named, dict):
        named = named.get("content")
    return named if isinstance(named, str) else None


@dataclass(frozen=True)
class Batch:
    """Texts of one chunk with their UTF-8 bytes and words, int64 [texts]; `last` closes the chunk."""

    texts: list[str]
    sizes: NDArray[np.int64]
    words: NDArray[np.int64]
    last: bool


def pack(
    texts: Path,
    tokenizer: PackTokenizer,
    prefix: Path,
    *,
    encoder: str = "auto",
    progress: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Tokenise a folder of chunks and write it as a pack (see `clp_transfer.packed`); returns its totals, with
    the `encoder` that was used.

    `encoder`: see `choose`. `progress` hears how many UTF-8 bytes of text are done. After every chunk, what was
    written is synced and recorded in `<prefix>.progress.json`; a run of the same texts and tokenizer that finds it
    goes on from there, to the same files.
    """
    paths = chunk_paths(texts)
    record = prefix.with_suffix(".progress.json")
    state = _recorded(record, prefix, tokenizer, _key(paths, tokenizer))
    left = paths[state["chunks"] :]
    totals = {name: state[name] for name in TOTALS}
    with ThreadPoolExecutor(1) as thread:
        # Loaded and checked while the first texts are read: that takes half a second. A run that was killed after its
        # last chunk has no text left, and needs none.
        chosen: Future[Encoder] = Future()
        if left:
            chosen = thread.submit(choose, tokenizer.backend, encoder, iter_texts(texts))

        def encode(batch: Batch) -> tuple[Batch, Encoded]:
            return batch, chosen.result().encode(batch.texts)

        with (
            worked_ahead(_batches(left), encode, threads=AT_ONCE, limit=AHEAD) as encoded,
            PackWriter(
                prefix, eos_id=tokenizer.eos_id, vocab_size=tokenizer.size, tokenizer=tokenizer.digest, totals=totals
            ) as writer,
        ):
            for batch, (ids, lengths) in encoded:
                if batch.texts:
                    state["encoder"] = f"{chosen.result().name} {chosen.result().version}"
                    writer.append(ids, lengths, batch.sizes, batch.words)
                    if progress:
                        progress(writer.totals["bytes"])
                if batch.last:
                    writer.sync()
                    state |= {"chunks": state["chunks"] + 1, **writer.totals}
                    write_json(record, state)
            info = writer.finish()
    record.unlink()
    # Not in the pack's own file: whichever encoder made it, the pack is the same.
    return {**info, "encoder": state["encoder"]}


def packed_bytes(texts: Path, tokenizer: PackTokenizer, prefix: Path) -> int:
    """UTF-8 bytes of text that a killed run of the same texts and tokenizer has packed: where `pack` will go on."""
    record = prefix.with_suffix(".progress.json")
    return int(_recorded(record, prefix, tokenizer, _key(chunk_paths(texts), tokenizer))["bytes"])


def _key(paths: list[Path], tokenizer: PackTokenizer) -> str:
    """What a run that goes on must have in common with the one that was killed."""
    return sha256_json([tokenizer.digest, [(path.name, path.stat().st_size) for path in paths]])


def _recorded(record: Path, prefix: Path, tokenizer: PackTokenizer, key: str) -> dict[str, Any]:
    """Where a killed run can go on: the chunks done and their totals; all 0 where there is nothing to go on from."""
    if record.is_file():
        state: dict[str, Any] = read_json(record)
        if state["key"] == key and PackWriter.can_go_on(prefix, state, tokenizer.size):
            return state
    return {"key": key, "chunks": 0, "encoder": None, **dict.fromkeys(TOTALS, 0)}


def _batches(paths: list[Path]) -> Iterator[Batch]:
    """The texts of all chunks in their order, a few megabytes at a time."""
    for path in paths:
        for texts in chain.from_iterable(map(_pieces, read_texts(path, BATCH_BYTES))):
            yield Batch(texts.to_pylist(), *count_bytes_and_words(texts), last=False)
        yield Batch([], NOTHING, NOTHING, last=True)


def _pieces(texts: pa.LargeStringArray) -> Iterator[pa.LargeStringArray]:
    """The same texts, cut where they are twice BATCH_BYTES: one may be as long as hundreds of its neighbours."""
    bounds = np.append(0, np.cumsum(pc.binary_length(texts).to_numpy()))
    for start, end in cut(bounds, 2 * BATCH_BYTES):
        yield texts.slice(start, end - start)
