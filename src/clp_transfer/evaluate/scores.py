"""What was measured of a text, document by document, and the record of it in every unit."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clp_transfer.evaluate.intervals import ratio_intervals
from clp_transfer.evaluate.perplexity import Perplexity, exp_or_none

COUNTS = ("tokens", "bytes", "words")
LN2 = float(np.log(2))


@dataclass(frozen=True)
class Scores:
    """Nats, float64 [documents]; tokens predicted, UTF-8 bytes, words, int64 [documents, 3]; `parts` as in `Text`."""

    nats: NDArray[np.float64]
    counts: NDArray[np.int64]
    parts: list[str] | None = None

    @staticmethod
    def union(all_scores: list[Scores]) -> Scores:
        """The documents of them all."""
        nats, counts = ([getattr(one, name) for one in all_scores] for name in ("nats", "counts"))
        return Scores(np.concatenate(nats), np.concatenate(counts))

    def total(self, which: NDArray[np.bool_] | slice = slice(None)) -> Perplexity:
        """All documents together, or some."""
        counts = self.counts[which]
        tokens, size, words = (int(count) for count in counts.sum(axis=0))
        return Perplexity(float(self.nats[which].sum()), tokens, size, words, len(counts))

    def save(self, path: Path) -> None:
        """Write to an .npz file, whole or not at all."""
        held = io.BytesIO()
        np.savez(held, nats=self.nats, counts=self.counts, parts=np.array(self.parts or [], dtype=str))
        aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        with aside.open("wb") as file:
            file.write(held.getvalue())
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)

    @staticmethod
    def load(path: Path) -> Scores:
        """Read what `save` wrote."""
        with np.load(path) as found:
            return Scores(found["nats"], found["counts"], found["parts"].tolist() or None)

    def record(self, *, resamples: int, seed: int, about: dict[str, Any]) -> dict[str, Any]:
        """The figures in every unit, what they were measured with (`about`), intervals, and figures of each part."""
        intervals = ratio_intervals(self.nats, dict(zip(COUNTS, self.counts.T, strict=True)), resamples, seed)
        values = {**self.total().as_dict(), **about, "intervals": _units(intervals)}
        if self.parts is not None:
            parts = np.array(self.parts)
            values["parts"] = {part: self.total(parts == part).as_dict() for part in dict.fromkeys(self.parts)}
        return values


def _units(intervals: dict[str, tuple[float, float]]) -> dict[str, list[float | None]]:
    """From nats per token, byte and word to the units that are shown."""
    if not intervals:
        return {}
    return {
        "nats_per_token": list(intervals["tokens"]),
        "bits_per_byte": [bound / LN2 for bound in intervals["bytes"]],
        "word_perplexity": [exp_or_none(bound) for bound in intervals["words"]],
    }
