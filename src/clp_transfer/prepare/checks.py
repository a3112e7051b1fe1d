"""A data config's names, checked before anything is fetched."""

from __future__ import annotations

from collections.abc import Iterable

from clp_transfer.errors import UserError
from clp_transfer.prepare.job import DataConfig
from clp_transfer.prepare.readers import find_reader

SPLITS = ("train", "validation")


def check(data: DataConfig) -> None:
    """Raise UserError where the config names a reader, corpus, tokenizer, model or split that there is not."""
    if not data.corpora:
        raise UserError("the data config has no corpora", "add at least one under data.corpora")
    for corpus in data.corpora.values():
        find_reader(corpus.reader)
    for name, tokenizer in data.tokenizers.items():
        if tokenizer.model is not None:
            _known("model", tokenizer.model, data.models, f"tokenizer {name}")
        else:
            _known("corpus", tokenizer.corpus, data.corpora, f"tokenizer {name}")
    for name, pack in data.packs.items():
        _known("corpus", pack.corpus, data.corpora, f"pack {name}")
        _known("tokenizer", pack.tokenizer, data.tokenizers, f"pack {name}")
        for split in pack.splits:
            _known("split", split, SPLITS, f"pack {name}")
    if data.domain_task is not None:
        _known("corpus", data.domain_task.corpus, data.corpora, "domain_task")
        if not data.domain_task.labels or data.domain_task.documents < 1:
            raise UserError("domain_task has no labels or no documents", "give it at least one of each")


def _known(kind: str, name: str, known: Iterable[str], where: str) -> None:
    if name not in known:
        raise UserError(f"{where} names the {kind} {name!r}", f"use one of: {', '.join(known) or 'none is defined'}")
