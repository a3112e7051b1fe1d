"""The sentence pairs of XNLI and PAWS-X: whole sentences that differ in the answer between the two parts.

lm-evaluation-harness loads this file by its path: it imports nothing of ours.
"""

from __future__ import annotations

from typing import Any


def xnli(doc: dict[str, Any]) -> list[str]:
    """Entailment, neutral, contradiction: `{premise}, richtig? {Ja|Auch|Nein}, {hypothesis}`."""
    return [f"{doc['premise']}, richtig? {answer}, {doc['hypothesis']}" for answer in ("Ja", "Auch", "Nein")]


def pawsx(doc: dict[str, Any]) -> list[str]:
    """Different (0), paraphrase (1): `{sentence1}, richtig? {Nein|Ja}, {sentence2}`."""
    return [f"{doc['sentence1']}, richtig? {answer}, {doc['sentence2']}" for answer in ("Nein", "Ja")]
