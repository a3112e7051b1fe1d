"""Target-language text for the methods that read some: token counts, documents, windows of ids."""

from __future__ import annotations

import codecs
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clp_transfer.clp.vocabulary.keys import Key
from clp_transfer.clp.vocabulary.vocabulary import Vocabulary
from clp_transfer.errors import UserError
from clp_transfer.packed import BYTES, END, WORDS, PackedCorpus, count_words

if TYPE_CHECKING:
    from clp_transfer.clp.models import Ingredients

PLAIN = (".txt", ".jsonl")
# Plain text is tokenised anew each time, so no more of it is read than tells the frequencies well.
PLAIN_BYTES = 32 << 20
# Documents that are tokenised at a time, and ids that are counted at a time: for the memory.
BATCH = 2048
COUNTED = 1 << 24
# So many documents, of so many bytes together, tell whether a pack is written in the target's ids.
CHECKED, CHECKED_BYTES = 256, 4 << 20


@dataclass(frozen=True)
class TargetText:
    """Text in the target's tokens: a pack that prepare.py made (its prefix), or a `.txt` or `.jsonl` file.

    `folder`: where the target's tokenizer lies; None: not known. Of a plain file (a document a line, in JSON lines
    under `text`) the first 32 MB are read. Everything here raises UserError for a file that is missing, empty or not
    of that form, and for a pack of another tokenizer.
    """

    path: Path
    target: Vocabulary
    folder: Path | None = None

    @classmethod
    def of(cls, path: str | Path | None, ingredients: Ingredients) -> TargetText | None:
        """The text for a transfer's target; None for none."""
        return None if path is None else cls(Path(path), ingredients.target, ingredients.tokenizer_folder)

    @cached_property
    def _stream(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """All ids end to end, and the index of the documents as in `packed`."""
        if self.path.suffix in PLAIN or not all(self.path.with_suffix(end).is_file() for end in (".json", ".bin")):
            return self._tokenised()
        pack = PackedCorpus(self.path)
        if wrong := self._wrong(pack):
            raise UserError(
                f"{self.path} was packed with another tokenizer than the target's: {wrong}",
                "give text packed with the target's own tokenizer, or plain text",
            )
        return np.asarray(pack.tokens), np.asarray(pack.documents)

    def _wrong(self, pack: PackedCorpus) -> str | None:
        """What tells that a pack is not in the target's ids; None where it is.

        It is where it was made with the target's tokenizer.json. The same tokenizer may have been saved anew, so else
        its documents have to decode to as many bytes as they were made of. What closes them need not be the target's
        end-of-sequence: a chat model's closes a turn.
        """
        if self.folder is not None and pack.made_by(self.folder):
            return None
        if pack.info["vocab_size"] > self.target.size:
            return f"it holds ids up to {pack.info['vocab_size'] - 1:,}, the target has {self.target.size:,}"
        if pack.eos_id in self.target.keys:
            return f"it closes documents with id {pack.eos_id}, an ordinary token of the target"
        index, read = pack.documents, 0
        for place in np.linspace(0, len(index) - 1, min(CHECKED, len(index))).astype(int).tolist():
            start, size = int(index[place - 1, END]) if place else 0, int(index[place, BYTES])
            ids = pack.tokens[start : int(index[place, END]) - 1].tolist()
            found = len(self.target.tokenizer.decode(ids, clean_up_tokenization_spaces=False).encode())
            if found != size:
                return f"document {place + 1:,} has {size:,} bytes, and {found:,} in the target's tokens"
            read += size
            if read >= CHECKED_BYTES:
                break
        return None

    def _tokenised(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        end = self.target.roles.get("eos")
        closing = [] if end is None else [end]
        documents, parts, index, position = _read(self.path), [], [], 0
        while batch := list(islice(documents, BATCH)):
            ids: list[int] = []
            for text, encoded in zip(batch, self._encode(batch), strict=True):
                ids += encoded + closing
                index.append((position + len(ids), len(text.encode()), count_words(text)))
            position += len(ids)
            parts.append(np.asarray(ids, dtype=np.int64))
        if not position:
            raise UserError(f"{self.path} has no text", "give a .txt or .jsonl file with a document a line")
        return np.concatenate(parts), np.asarray(index, dtype=np.int64)

    def _encode(self, documents: list[str]) -> list[list[int]]:
        read = self.target.tokenizer(
            documents,
            add_special_tokens=False,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,  # no warning about texts longer than the model's positions
        )
        return read["input_ids"]

    @property
    def ids(self) -> NDArray[np.int64]:
        """All token ids, documents end to end, each closed by end-of-text."""
        return self._stream[0]

    @cached_property
    def counts(self) -> Tensor:
        """How often each target token occurs, float32 [V_t]."""
        counts = np.zeros(self.target.size, dtype=np.int64)
        for start in range(0, len(self.ids), COUNTED):
            counts += np.bincount(self.ids[start : start + COUNTED], minlength=self.target.size)
        return torch.from_numpy(counts).float()

    def documents(self) -> Iterator[list[Key]]:
        """Each document as what its tokens spell; special tokens left out."""
        start, keys = 0, self.target.keys
        for end in self._stream[1][:, END]:
            yield [keys[i] for i in self.ids[start:end].tolist() if i in keys]
            start = int(end)

    def head(self, size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The first documents until `size` UTF-8 bytes are reached: their ids and their index."""
        ids, index = self._stream
        count = int(np.searchsorted(np.cumsum(index[:, BYTES]), size)) + 1
        chosen = index[:count]
        return ids[: chosen[-1, END]], chosen

    def sizes(self) -> dict[str, int]:
        """Documents, tokens, bytes and words, for the report."""
        ids, index = self._stream
        return {
            "documents": len(index),
            "tokens": len(ids),
            "bytes": int(index[:, BYTES].sum()),
            "words": int(index[:, WORDS].sum()),
        }


def _read(path: Path) -> Iterator[str]:
    """The documents of a plain file, as far as they lie in its first 32 MB; blank lines are none."""
    if not path.is_file():
        raise UserError(
            f"there is no text {path}", "give a .txt or .jsonl file, or the prefix of a pack that prepare.py made"
        )
    for number, line in enumerate(io.StringIO(_start(path)), 1):
        if line.strip():
            text = _text_of(line, f"{path}, line {number}") if path.suffix == ".jsonl" else line
            if text.strip():
                yield text.strip()


def _start(path: Path) -> str:
    """The first 32 MB, up to the end of a line where there is one."""
    try:
        with path.open("rb") as file:
            read = file.read(PLAIN_BYTES + 1)
        longer = len(read) > PLAIN_BYTES
        if longer:
            read = read[: read.rfind(b"\n", 0, PLAIN_BYTES) + 1] or read[:PLAIN_BYTES]
        # The decoder that takes parts lets a character be that the end has cut.
        return codecs.getincrementaldecoder("utf-8-sig")().decode(read, final=not longer)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}", "give another file") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8: {error}", "convert it, or give another file") from error


def _text_of(line: str, where: str) -> str:
    """The text of a line of JSON."""
    try:
        text = json.loads(line)["text"]
        text.encode()  # no string, or one with half a surrogate pair, is none
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{where} is no JSON object with a text", 'expected {"text": "…"}') from error
    return str(text)
