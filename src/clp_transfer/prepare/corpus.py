"""One corpus: its files read, cleaned, split, and its evaluation texts taken out of what is trained on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from clp_transfer.errors import UserError
from clp_transfer.prepare.chunks import copy_without, iter_texts, measure
from clp_transfer.prepare.documents import Document
from clp_transfer.prepare.job import VALIDATION_BYTES, ClusterConfig, CorpusConfig
from clp_transfer.prepare.read import Part, Reading, ReadState
from clp_transfer.prepare.shuffle import Sizes, shuffle
from clp_transfer.prepare.sources import SourceFile

log = logging.getLogger(__name__)

# By number of chunk and of row: why the document is left out.
Removed = Mapping[int, Mapping[int, str]]
MIB = 1 << 20
TRAIN, VALIDATION = "train", "validation"


class Corpus:
    """A corpus on its way from `files` to `out/train` and `out/validation`; what grows meanwhile lies in `work`."""

    def __init__(
        self,
        name: str,
        config: CorpusConfig,
        files: list[SourceFile],
        held_out: list[SourceFile],
        seed: int,
        out: Path,
        work: Path,
        cluster: ClusterConfig,
    ) -> None:
        """`held_out`: the files of `config.validation`, empty where the validation split is cut from `files`."""
        self.name, self.config, self.files, self.held_out = name, config, files, held_out
        self.seed, self.out, self.work, self.cluster = seed, out, work, cluster
        self.left_out: dict[str, int] = {}
        self.examples: dict[str, list[dict[str, Any]]] = {}
        self.opened: list[SourceFile] = []  # the files that were read, wholly or in part

    def make(self, keep: Callable[[Document], bool] | None = None) -> dict[str, Any]:
        """Do it all; returns the corpus's numbers. Documents for which `keep` is false are no part of it."""
        shuffled = self.config.split == "shuffled"
        state = self._read(TRAIN, self.files, self._parts(shuffled), keep)
        removed = self._cleaned(self.work / TRAIN / TRAIN)
        in_order = {part: self.work / TRAIN / part for part in state.chunks}
        folders = self._shuffled(state, removed) if shuffled else in_order
        if self.held_out:
            self._read(VALIDATION, self.held_out, [Part(VALIDATION, None)], None)
            folders[VALIDATION] = self.work / VALIDATION / VALIDATION
        copy_without(folders[VALIDATION], {}, self.out / VALIDATION)
        # Shuffled chunks are made without what was removed, and their rows have other numbers.
        contaminated = self._decontaminated(folders[TRAIN], self.out / VALIDATION, {} if shuffled else removed)
        gone = contaminated if shuffled else _joined(removed, contaminated)
        copy_without(folders[TRAIN], gone, self.out / TRAIN)
        numbers: dict[str, Any] = {part: measure(self.out / part) for part in (TRAIN, VALIDATION)}
        return {**numbers, "left_out": {k: v for k, v in self.left_out.items() if v}, "examples": self.examples}

    def _parts(self, shuffled: bool) -> list[Part]:
        """What is cut from the stream of files, in order."""
        sizes = split_sizes(self.config)
        if shuffled:
            return [Part(TRAIN, None)]
        train = Part(TRAIN, sizes.train)
        return [train] if self.held_out else [train, Part(VALIDATION, sizes.validation)]

    def _read(
        self, folder: str, files: list[SourceFile], parts: list[Part], keep: Callable[[Document], bool] | None
    ) -> ReadState:
        config, clean = self.config, self.config.clean
        sources = {**config.sources, **({VALIDATION: config.validation} if config.validation else {})}
        # Shuffling meets equal texts itself, unless they are in different groups.
        distinct = clean.exact and (config.split != "shuffled" or bool(config.group) or folder == VALIDATION)
        what = f"corpus {self.name}" + ("" if folder == TRAIN else ", validation")
        state = Reading(what, files, sources, clean, parts, self.work / folder, keep, distinct).run()
        self._count(state.left_out)
        self.opened += files[: state.opened]
        for part in parts:
            self._check(part, state)
        return state

    def _check(self, part: Part, state: ReadState) -> None:
        found, all_bytes = state.bytes.get(part.name, 0), sum(state.bytes.values())
        if not found and not all_bytes:
            raise UserError(f"corpus {self.name} is empty", "check its sources in the data config")
        if not found:
            raise UserError(
                f"corpus {self.name} is too small for its split: {all_bytes} bytes, and none left for {part.name}",
                "name more files, or lower train_bytes (or subsample_size_mb)",
            )
        if part.size is not None and found < part.size:
            message = "corpus %s: its files end early: %s has %s bytes, %s were asked for"
            log.warning(message, self.name, part.name, f"{found:,}", f"{part.size:,}")

    def _shuffled(self, state: ReadState, removed: Removed) -> dict[str, Path]:
        sizes = split_sizes(self.config)
        if self.held_out:
            sizes = replace(sizes, validation=0)
        folder = self.work / "shuffled"
        chunks, what = self.work / TRAIN / TRAIN, f"corpus {self.name}"
        done = shuffle(chunks, removed, state.bytes[TRAIN], sizes, self.seed, folder, what, self.config.group)
        self._count({"duplicate": done.duplicates, "beyond_train_bytes": done.documents.get("beyond", 0)})
        taken, total = done.bytes.get(VALIDATION, 0), sum(done.bytes.values())
        documents = sum(done.documents.values())
        if not self.held_out and (taken == 0 or 2 * taken > total):
            raise UserError(
                f"corpus {self.name} is too small for its split: {documents} documents of {total} bytes in all, of "
                f"which validation_bytes={sizes.validation} takes {done.documents.get(VALIDATION, 0)} documents of "
                f"{taken} bytes",
                f"set validation_bytes between 1 and {total // 2} (half of the corpus), or add text",
            )
        if not done.bytes.get(TRAIN):
            raise UserError(
                f"corpus {self.name} has no text left to train on with train_bytes={sizes.train}", "raise train_bytes"
            )
        return {part: folder / part for part in (TRAIN, VALIDATION) if part in done.chunks}

    def _cleaned(self, chunks: Path) -> Removed:
        """What near-duplicates and quality filters take out of everything that was read."""
        clean = self.config.clean
        return self._removed(chunks, "cleaned", None, {}) if clean.near or clean.filters else {}

    def _decontaminated(self, chunks: Path, validation: Path, gone: Removed) -> Removed:
        """What shares word sequences with evaluation texts, in the train split; `gone` of it has left before."""
        wanted = self.config.clean.decontaminate
        if not wanted:
            return {}
        from clp_transfer.prepare.clean import read_evaluation_texts

        files = [name for name in wanted if name != VALIDATION]
        texts = iter_texts(validation) if VALIDATION in wanted else iter(())
        return self._removed(chunks, "decontaminated", chain(texts, read_evaluation_texts(files)), gone)

    def _removed(self, chunks: Path, step: str, evaluation: Iterator[str] | None, gone: Removed) -> Removed:
        from clp_transfer.prepare.clean import removals

        clean = self.config.clean
        if evaluation is not None:  # the other steps have seen these texts already
            clean = replace(clean, near=False, filters=[])
        language = self.config.language or self.name
        found = removals(chunks, clean, language, self.work / step, self.cluster, evaluation, gone)
        self._count(found.counts)
        self.examples.update(found.examples)
        return found.rows

    def _count(self, counts: dict[str, int]) -> None:
        for reason, count in counts.items():
            self.left_out[reason] = self.left_out.get(reason, 0) + count


def split_sizes(config: CorpusConfig) -> Sizes:
    """The splits' sizes in UTF-8 bytes; `subsample_size_mb` sets both: so many MiB, and a tenth of it."""
    if config.subsample_size_mb is None:
        held_out = VALIDATION_BYTES if config.validation_bytes is None else config.validation_bytes
        return Sizes(held_out, config.train_bytes)
    train = round(config.subsample_size_mb * MIB)
    return Sizes(train // 10, train)


def _joined(one: Removed, other: Removed) -> Removed:
    if not one or not other:
        return one or other
    return {number: {**one.get(number, {}), **other.get(number, {})} for number in {*one, *other}}
