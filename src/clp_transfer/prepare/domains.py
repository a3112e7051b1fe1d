"""The labelled task: dictionary entries with a domain label, which leave the language model's corpus."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from clp_transfer.errors import UserError
from clp_transfer.prepare.documents import Document
from clp_transfer.prepare.job import DomainTaskConfig
from clp_transfer.prepare.shuffle import place

# "Medizin: …", "Zoologie, Ornithologie: …", "Botanik, speziell Blütenbau: …": a capitalised word, then words,
# commas, hyphens and slashes up to a colon, 62 characters at most; longer ones are definitions with a colon in
# them. Wide on purpose: what it takes too much is only missing in training, what it took too little would let
# the language model read the task's labels. In the pinned Wiktionary it finds 12,440 entries; the bound is not
# critical (40 characters: 12,219; none: 12,559).
LABEL = re.compile(r"([A-ZÄÖÜ][\w ,/-]{1,61}): ")


@dataclass(frozen=True)
class DomainTask:
    """Texts with the index of their label, and how many documents the corpus loses to it."""

    items: list[tuple[str, int]]
    kept_out: int


def label_of(gloss: str) -> str | None:
    """The domain label that a gloss begins with, qualifiers included, or None."""
    match = LABEL.match(gloss)
    return match[1] if match else None


def is_labelled(document: Document) -> bool:
    """Whether the document belongs to the task's side: any of its glosses has a label."""
    return any(map(label_of, document.glosses))


def take_task(documents: Iterable[Document], config: DomainTaskConfig, seed: int) -> DomainTask:
    """Make the task of some of the labelled entries; all of them leave the corpus.

    The task is made of those whose first gloss's label is exactly one of `config.labels`: the word and that gloss
    without its label. Of these, `config.documents` are taken in hash order, so that classes keep their natural shares.
    Raises UserError where there are fewer.
    """
    candidates, kept_out = [], 0
    for document in filter(is_labelled, documents):
        kept_out += 1
        label = label_of(document.glosses[0])
        if label in config.labels:
            gloss = document.glosses[0][len(label) + 2 :].strip()
            candidates.append(Document(label, f"{document.id}: {gloss}", (gloss,)))
    whole = [c for c in candidates if c.glosses[0]]
    chosen = sorted(whole, key=lambda document: place(document.text, seed))[: config.documents]
    if len(chosen) < config.documents:
        raise UserError(
            f"corpus {config.corpus} has {len(chosen)} entries labelled {', '.join(config.labels)}, "
            f"domain_task.documents={config.documents} were asked for",
            "lower domain_task.documents, or add labels that the corpus has",
        )
    return DomainTask([(c.text, config.labels.index(c.id)) for c in chosen], kept_out)


def task_statistics(task: DomainTask, labels: list[str]) -> dict[str, Any]:
    """Counts per label and the accuracies that need no reading: guessing, and always the commonest label."""
    counts = Counter(label for _, label in task.items)
    return {
        "documents": len(task.items),
        "counts": {name: counts[index] for index, name in enumerate(labels)},
        "majority": max(counts.values()) / len(task.items),
        "random": 1 / len(labels),
        "kept_out": task.kept_out,
    }
