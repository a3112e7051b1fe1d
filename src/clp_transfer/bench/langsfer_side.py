"""langsfer's CLP on tables given as files. Runs in langsfer's own environment: nothing of ours is imported here."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np


class Vocabulary:
    """As much of a tokenizer, and of an embedding by token, as langsfer's initialisation asks for."""

    def __init__(self, tokens: int, table: Any = None) -> None:
        self.names = [f"t{token}" for token in range(tokens)]
        self.ids = {name: index for index, name in enumerate(self.names)}
        self.embeddings_matrix = table

    def __len__(self) -> int:
        return len(self.ids)

    def get_vocab(self) -> dict[str, int]:
        """Every token with its id."""
        return self.ids

    def convert_tokens_to_ids(self, tokens: list[str]) -> list[int]:
        """The ids of tokens."""
        return [self.ids[token] for token in tokens]

    def convert_ids_to_tokens(self, index: int) -> str:
        """The token of an id."""
        return self.names[index]

    def get_vector_for_token(self, token: str) -> Any:
        """The token's row of the table."""
        return self.embeddings_matrix[self.ids[token]]


def main(folder: Path) -> None:
    """Read `helper.npy` and `source.npy`, write `rows.npy` and `seconds.json`; only the initialisation is timed.

    The source's tokens are the first of the helper's; `rows` are those of all others, float32.
    """
    from langsfer.high_level import clp_transfer

    helper, source = np.load(folder / "helper.npy"), np.load(folder / "source.npy")
    target = Vocabulary(len(helper), helper)
    initialisation = clp_transfer(Vocabulary(len(source)), source, target, target)
    started = time.perf_counter()
    rows = initialisation.initialize(seed=1)
    seconds = time.perf_counter() - started
    np.save(folder / "rows.npy", np.asarray(rows)[len(source) :].astype(np.float32))
    (folder / "seconds.json").write_text(json.dumps({"seconds": seconds}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
