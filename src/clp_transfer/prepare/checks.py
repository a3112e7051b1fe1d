"""A data config's names, checked before anything is fetched."""

from __future__ import annotations

from collections.abc import Iterable

from clp_transfer.errors import UserError
from clp_transfer.prepare.job import CorpusConfig, DataConfig, TokenizerConfig
from clp_transfer.prepare.readers import READERS

PARTS = ("train", "validation")
CHOICES = {"split": ("shuffled", "in_order")}
CLEAN_CHOICES = {"invalid_utf8": ("drop", "replace"), "broken": ("stop", "keep")}
PRE_TOKENIZERS = ("gpt2", "bloom")
ENCODERS = ("auto", "tokenizers", "fastokens", "gigatoken")


def check(data: DataConfig) -> None:
    """Raise UserError where the config names a reader, corpus, tokenizer, model or split that there is not."""
    if not data.corpora:
        raise UserError("the data config has no corpora", "add at least one under data.corpora")
    _known("encoder", data.encoder, ENCODERS, "data.encoder")
    for name, corpus in data.corpora.items():
        _check_corpus(name, corpus)
    for name, tokenizer in data.tokenizers.items():
        _check_tokenizer(name, tokenizer, data)
    for name, pack in data.packs.items():
        _known("corpus", pack.corpus, data.corpora, f"pack {name}")
        _known("tokenizer", pack.tokenizer, data.tokenizers, f"pack {name}")
        for part in pack.splits:
            _known("split", part, PARTS, f"pack {name}")
    if data.domain_task is not None:
        _known("corpus", data.domain_task.corpus, data.corpora, "domain_task")
        if not data.domain_task.labels or data.domain_task.documents < 1:
            raise UserError("domain_task has no labels or no documents", "give it at least one of each")


def _check_corpus(name: str, corpus: CorpusConfig) -> None:
    where = f"corpus {name}"
    if not corpus.sources:
        raise UserError(f"{where} has no sources", "add at least one under its sources: a wheel, hub or files")
    for source in (*corpus.sources.values(), corpus.validation):
        if source is not None and source.reader:
            _known("reader", source.reader, READERS, where)
    for key, choices in CHOICES.items():
        _known(key, getattr(corpus, key), choices, where)
    for key, choices in CLEAN_CHOICES.items():
        _known(f"clean.{key}", getattr(corpus.clean, key), choices, where)
    for key, value in (
        ("subsample_size_mb", corpus.subsample_size_mb),
        ("train_bytes", corpus.train_bytes),
        ("clean.longest", corpus.clean.longest),
        ("clean.ngram", corpus.clean.ngram),
    ):
        if value is not None and value <= 0:
            raise UserError(f"{where}: {key}={value} makes no sense", "expected: more than 0")
    sized = corpus.subsample_size_mb is not None or corpus.train_bytes is not None
    if corpus.split == "in_order" and not sized and corpus.validation is None:
        raise UserError(
            f"{where}: split=in_order takes train first and validation after it, but train has no size",
            "set subsample_size_mb (the paper: 4096) or train_bytes",
        )


def _check_tokenizer(name: str, tokenizer: TokenizerConfig, data: DataConfig) -> None:
    where = f"tokenizer {name}"
    if tokenizer.model is not None:
        _known("model", tokenizer.model, data.models, where)
    elif tokenizer.path is None:
        _known("corpus", tokenizer.corpus, data.corpora, where)
        _known("pre_tokenizer", tokenizer.pre_tokenizer, PRE_TOKENIZERS, where)
        if tokenizer.vocab_size is None:
            given = {n: t for n, t in data.tokenizers.items() if t.like is None}
            _known("tokenizer to be like", tokenizer.like or "", given, where)


def _known(kind: str, name: str, known: Iterable[str], where: str) -> None:
    if name not in known:
        raise UserError(f"{where} names the {kind} {name!r}", f"use one of: {', '.join(known) or 'none is defined'}")
