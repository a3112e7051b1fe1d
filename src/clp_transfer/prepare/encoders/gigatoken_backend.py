"""`gigatoken`: about 15 times faster than `tokenizers`, for the pre-tokenizers that it knows by heart."""

from __future__ import annotations

import json
from importlib.metadata import version

import numpy as np
from tokenizers import Tokenizer

from clp_transfer.prepare.encoders import Encoded

NAME = "gigatoken"
# Its cache keeps every word it has met, up to ten bytes of memory a byte of text: it begins anew after so much text.
RENEWED_AFTER = 32_000_000


class GigatokenEncoder:
    """Encodes with `gigatoken`. Raises ImportError where it is missing, others where it cannot load the tokenizer."""

    name = NAME

    def __init__(self, backend: Tokenizer) -> None:
        import gigatoken

        # It has no switch for them: special tokens that it does not know are plain text.
        parts = json.loads(backend.to_str())
        parts["added_tokens"] = [token for token in parts["added_tokens"] if not token["special"]]
        self._json = json.dumps(parts)
        self._load = gigatoken.Tokenizer.from_json
        self._renew()
        self.version = version(NAME)

    def encode(self, texts: list[str]) -> Encoded:
        """See `Encoder`."""
        import awkward

        if self._encoded > RENEWED_AFTER:
            self._renew()
        self._encoded += sum(map(len, texts))
        rows = self._backend.encode_batch(texts)
        lengths = np.asarray(awkward.num(rows), dtype=np.int64)
        return np.asarray(awkward.flatten(rows), dtype=np.uint32), lengths

    def _renew(self) -> None:
        self._backend = self._load(self._json)
        self._encoded = 0
