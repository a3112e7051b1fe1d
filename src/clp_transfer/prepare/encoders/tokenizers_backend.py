"""Hugging Face's `tokenizers`: the reference, always there."""

from __future__ import annotations

from importlib.metadata import version
from itertools import chain

import numpy as np
from tokenizers import Tokenizer

from clp_transfer.prepare.encoders import Encoded

NAME = "tokenizers"


class TokenizersEncoder:
    """Encodes with `tokenizers` itself; turns special tokens into plain text on `backend`, which it keeps."""

    name = NAME

    def __init__(self, backend: Tokenizer) -> None:
        backend.encode_special_tokens = True
        self._backend = backend
        self.version = version(NAME)

    def encode(self, texts: list[str]) -> Encoded:
        """See `Encoder`."""
        encodings = self._backend.encode_batch_fast(texts, add_special_tokens=False)
        lengths = np.fromiter(map(len, encodings), np.int64, len(encodings))
        ids = chain.from_iterable(encoding.ids for encoding in encodings)
        return np.fromiter(ids, np.uint32, int(lengths.sum())), lengths
