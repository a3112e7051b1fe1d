"""Programs that turn text into token ids: the same ids from each, at very different speeds."""

from __future__ import annotations

from typing import Any, Protocol

from numpy.typing import NDArray

# The ids of some texts end to end, uint32 [tokens], and how many each text has, int64 [texts].
Encoded = tuple[NDArray[Any], NDArray[Any]]


class Encoder(Protocol):
    """One of them, with one tokenizer loaded.

    `name` and `version` are those of the package, and are recorded in the packs.
    """

    name: str
    version: str

    def encode(self, texts: list[str]) -> Encoded:
        """Encode texts; no special token is added, and one spelt out in a text is the characters it is."""
