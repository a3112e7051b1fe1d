"""Corpora as packed token ids."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from clp_transfer.errors import UserError
from clp_transfer.files import read_json, sha256_file
from clp_transfer.packed import write_pack
from clp_transfer.prepare.bpe import END_OF_TEXT

BATCH = 1024


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


def open_tokenizer(folder: Path) -> PackTokenizer:
    """Open a saved tokenizer for packing.

    Documents are separated by `<|endoftext|>` where the tokenizer has it, else by its end-of-sequence token:
    a chat model's end-of-sequence closes a turn and says nothing about documents. A text that holds the
    literal characters of a special token is encoded as plain characters, never as the token.
    """
    file = folder / "tokenizer.json"
    backend = Tokenizer.from_file(str(file))
    backend.encode_special_tokens = True
    backend.no_truncation()
    backend.no_padding()
    eos_id = backend.token_to_id(END_OF_TEXT)
    if eos_id is None:
        name = read_json(folder / "tokenizer_config.json").get("eos_token")
        eos_id = backend.token_to_id(name) if isinstance(name, str) else None
    if eos_id is None:
        raise UserError(
            f"{folder} has neither {END_OF_TEXT} nor an end-of-sequence token", "use another model's tokenizer"
        )
    return PackTokenizer(backend, eos_id, sha256_file(file))


def read_texts(path: Path) -> Iterator[str]:
    """The texts of a corpus split, in the file's order."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)["text"]


def encode(texts: Iterable[str], tokenizer: PackTokenizer) -> Iterator[tuple[str, list[int]]]:
    """Each text with its token ids, with no special token added."""
    remaining = iter(texts)
    while batch := list(islice(remaining, BATCH)):
        encodings = tokenizer.backend.encode_batch_fast(batch, add_special_tokens=False)
        yield from ((text, encoding.ids) for text, encoding in zip(batch, encodings, strict=True))


def pack(corpus: Path, tokenizer: PackTokenizer, prefix: Path) -> dict[str, Any]:
    """Tokenise one corpus split and write it as a pack (see `clp_transfer.packed`); returns its totals."""
    return write_pack(
        prefix,
        encode(read_texts(corpus), tokenizer),
        eos_id=tokenizer.eos_id,
        vocab_size=tokenizer.backend.get_vocab_size(),
        tokenizer=tokenizer.digest,
    )
