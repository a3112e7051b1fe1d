"""A data config's names and values, checked before anything is fetched or read."""

from __future__ import annotations

import re
from collections.abc import Iterable

from clp_transfer.errors import UserError
from clp_transfer.prepare.bpe import PRE_TOKENIZERS, check_size
from clp_transfer.prepare.clean.executor import require_datatrove
from clp_transfer.prepare.encoders.choose import WANTED
from clp_transfer.prepare.job import (
    CleanConfig,
    ClusterConfig,
    CorpusConfig,
    DataConfig,
    SourceConfig,
    TokenizerConfig,
)
from clp_transfer.prepare.readers import READERS, find_reader
from clp_transfer.prepare.sources.wheels import check_wheel

PARTS = ("train", "validation")
CLUSTERS = ("local", "slurm")
CHOICES = {"split": ("shuffled", "in_order")}
CLEAN_CHOICES = {"invalid_utf8": ("drop", "replace"), "broken": ("stop", "keep")}


def check(data: DataConfig) -> None:
    """Raise UserError where the config names what there is not, contradicts itself, or asks for what cannot be."""
    if not data.corpora:
        raise UserError("the data config has no corpora", "add at least one under data.corpora")
    _known("encoder", data.encoder, WANTED, "data.encoder")
    for name, corpus in data.corpora.items():
        _check_corpus(f"corpus {name}", corpus)
    for name, wheel in data.models.items():
        check_wheel(wheel, f"model {name}")
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


def check_cluster(cluster: ClusterConfig) -> None:
    """Raise UserError for a place that there is not, or one without workers or memory."""
    _known("cluster.name", cluster.name, CLUSTERS, "cluster")
    _positive("cluster", {"workers": cluster.workers, "memory_gb_per_cpu": cluster.memory_gb_per_cpu})


def _check_corpus(where: str, corpus: CorpusConfig) -> None:
    if not corpus.sources:
        raise UserError(f"{where} has no sources", "add at least one under its sources: a wheel, hub or files")
    if "validation" in corpus.sources:
        raise UserError(
            f"{where} has a source named 'validation', which is what its held-out texts are called",
            "give the source another name; held-out texts of their own go under the corpus's `validation`",
        )
    for source in (*corpus.sources.values(), corpus.validation):
        if source is not None:
            _check_source(where, source)
    for key, choices in CHOICES.items():
        _known(key, getattr(corpus, key), choices, where)
    _check_group(where, corpus)
    _check_sizes(where, corpus)
    _check_clean(where, corpus.clean)


def _check_source(where: str, source: SourceConfig) -> None:
    if source.reader:
        _known("reader", source.reader, READERS, where)
        find_reader(source, "")  # and whether it can `drop`; of other files, that depends on their names
    hub = source.hub
    if hub is not None and hub.files and (hub.config is not None or hub.split is not None):
        given = " and ".join(
            f"hub.{key}={getattr(hub, key)}" for key in ("config", "split") if getattr(hub, key) is not None
        )
        raise UserError(
            f"{where}: {given} say which part of the Parquet conversion to read, and hub.files names other files",
            "set them to null, or hub.files to []",
        )


def _check_group(where: str, corpus: CorpusConfig) -> None:
    if corpus.group and corpus.split != "shuffled":
        raise UserError(
            f"{where}: group needs split=shuffled, and split is {corpus.split}", "set group='' or the split"
        )
    try:
        re.compile(corpus.group)
    except re.error as error:
        raise UserError(f"{where}: group={corpus.group} is no pattern: {error}", "see Python's re module") from error


def _check_sizes(where: str, corpus: CorpusConfig) -> None:
    _positive(where, {"subsample_size_mb": corpus.subsample_size_mb, "train_bytes": corpus.train_bytes})
    if corpus.subsample_size_mb is not None and corpus.train_bytes is not None:
        raise UserError(
            f"{where}: subsample_size_mb={corpus.subsample_size_mb} and train_bytes={corpus.train_bytes} both size the "
            "train split",
            "set one of them to null",
        )
    _check_held_out(where, corpus)
    sized = corpus.subsample_size_mb is not None or corpus.train_bytes is not None
    if corpus.split == "in_order" and not sized and corpus.validation is None:
        raise UserError(
            f"{where}: split=in_order takes train first and validation after it, but train has no size",
            "set subsample_size_mb (the paper: 4096) or train_bytes",
        )


def _check_held_out(where: str, corpus: CorpusConfig) -> None:
    """Only one thing may say what is held out."""
    if corpus.validation_bytes is None:
        return
    given = f"{where}: validation_bytes={corpus.validation_bytes}"
    if corpus.validation is not None:
        raise UserError(
            f"{given} of the sources' texts are to be held out, and the texts under `validation` in their place",
            "set one of them to null",
        )
    if corpus.subsample_size_mb is not None:
        raise UserError(
            f"{given} and subsample_size_mb={corpus.subsample_size_mb}, a tenth of which is held out, both size the "
            "validation split",
            "set validation_bytes=null, or subsample_size_mb=null and train_bytes in its place",
        )


def _check_clean(where: str, clean: CleanConfig) -> None:
    for key, choices in CLEAN_CHOICES.items():
        _known(f"clean.{key}", getattr(clean, key), choices, where)
    _positive(where, {"clean.longest": clean.longest, "clean.ngram": clean.ngram})
    if clean.near or clean.filters:
        require_datatrove()
    if clean.filters:
        from clp_transfer.prepare.clean.filters import FILTERS  # loads datatrove

        for name in clean.filters:
            _known("clean.filters", name, FILTERS, where)


def _check_tokenizer(name: str, tokenizer: TokenizerConfig, data: DataConfig) -> None:
    where = f"tokenizer {name}"
    if tokenizer.model is not None and tokenizer.path is not None:
        raise UserError(
            f"{where} is to be that of the model {tokenizer.model!r} and the one at {tokenizer.path}",
            "set `model` or `path`, not both",
        )
    if tokenizer.model is not None:
        _known("model", tokenizer.model, data.models, where)
    elif tokenizer.path is None:
        _check_training(where, name, tokenizer, data)


def _check_training(where: str, name: str, tokenizer: TokenizerConfig, data: DataConfig) -> None:
    _known("corpus", tokenizer.corpus, data.corpora, where)
    _known("pre_tokenizer", tokenizer.pre_tokenizer, PRE_TOKENIZERS, where)
    _positive(where, {"sample_bytes": tokenizer.sample_bytes})
    if tokenizer.vocab_size is None:
        given = {n: t for n, t in data.tokenizers.items() if t.like is None}
        _known("tokenizer to be like", tokenizer.like or "", given, where)
    elif tokenizer.like is not None:
        raise UserError(
            f"{where} is to have vocab_size={tokenizer.vocab_size} and the size of {tokenizer.like!r} (`like`)",
            "set vocab_size=null to take that one's size, or like=null",
        )
    else:
        check_size(tokenizer.vocab_size, name)


def _positive(where: str, values: dict[str, float | None]) -> None:
    for key, value in values.items():
        if value is not None and value <= 0:
            raise UserError(f"{where}: {key}={value} makes no sense", "expected: more than 0")


def _known(kind: str, name: str, known: Iterable[str], where: str) -> None:
    if name not in known:
        raise UserError(f"{where} names the {kind} {name!r}", f"use one of: {', '.join(known) or 'none is defined'}")
