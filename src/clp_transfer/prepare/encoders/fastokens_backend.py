"""`fastokens`: about 20 times faster than `tokenizers`, with any pre-tokenizer; its memory is bounded."""

from __future__ import annotations

from importlib.metadata import version

import numpy as np
from tokenizers import Tokenizer

from clp_transfer.prepare.encoders import Encoded

NAME = "fastokens"


class FastokensEncoder:
    """Encodes with `fastokens`. Raises ImportError where it is missing, others where it cannot load the tokenizer."""

    name = NAME

    def __init__(self, backend: Tokenizer) -> None:
        import fastokens

        self._backend = fastokens.Tokenizer.from_json_str(backend.to_str())
        self.version = version(NAME)

    def encode(self, texts: list[str]) -> Encoded:
        """See `Encoder`."""
        ids, offsets = self._backend.encode_batch_flat(texts, add_special_tokens=False, split_special_tokens=True)
        return np.frombuffer(ids, "<u4"), np.diff(np.frombuffer(offsets, "<u8").astype(np.int64))
