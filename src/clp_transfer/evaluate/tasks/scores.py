"""How the paper's German tasks are scored: which answer a model chose, and precision, recall and F1 over all of them.

lm-evaluation-harness loads this file by its path: it imports nothing of ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

Results = Sequence[tuple[float, bool]]  # of each choice: its log-likelihood, and whether greedy decoding gives it
Pairs = Sequence[tuple[int, int]]  # of each document: the right choice, the model's


def best(scores: Sequence[float]) -> int:
    """The first of the largest."""
    return max(range(len(scores)), key=scores.__getitem__)


def accuracy(doc: dict[str, Any], results: Results) -> dict[str, Any]:
    """The answer with the largest log-likelihood, not normalised."""
    return {"acc": float(best([score for score, _ in results]) == doc["label"])}


def labelled(doc: dict[str, Any], results: Results) -> dict[str, Any]:
    """`accuracy`, and the pair that precision, recall and F1 are made of."""
    return _pair(doc, best([score for score, _ in results]))


def labelled_or_last(doc: dict[str, Any], results: Results) -> dict[str, Any]:
    """`labelled`; where two answers are equally likely it is the last choice (GermEval 2017: neutral)."""
    scores = [score for score, _ in results]
    largest = max(scores)
    return _pair(doc, scores.index(largest) if scores.count(largest) == 1 else len(scores) - 1)


def _pair(doc: dict[str, Any], chosen: int) -> dict[str, Any]:
    pair = (doc["label"], chosen)
    return {"acc": float(pair[0] == pair[1]), "precision": pair, "recall": pair, "f1": pair}


def _score(part: int, average: str, pairs: Pairs) -> float:
    """Precision (0), recall (1) or F1 (2) as scikit-learn has them, 0 where they are 0 / 0.

    `macro` averages over the labels that occur, right or chosen; `binary` is about label 1.
    """
    from sklearn.metrics import precision_recall_fscore_support

    right, chosen = zip(*pairs, strict=True)
    return float(precision_recall_fscore_support(right, chosen, average=average, zero_division=0)[part])


micro_precision, micro_recall, micro_f1 = (partial(_score, part, "micro") for part in range(3))
macro_precision, macro_recall, macro_f1 = (partial(_score, part, "macro") for part in range(3))
binary_precision, binary_recall, binary_f1 = (partial(_score, part, "binary") for part in range(3))
