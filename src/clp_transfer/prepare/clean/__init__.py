"""Which texts of a corpus are left out because of what they say: contaminated, of poor quality, or said before.

Nothing is rewritten: the steps only find rows. Each sees what those before it left, so a text has one reason: first the
texts that share words with an evaluation text, then what the quality filters refuse, then near-duplicates of the rest.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import logging
import multiprocessing
import os
import shutil
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clp_transfer.files import read_json, write_json
from clp_transfer.prepare.chunks import chunk_paths, read_chunk
from clp_transfer.prepare.clean import rows
from clp_transfer.prepare.clean.decontaminate import Index, build, mark_chunk, read_evaluation_texts
from clp_transfer.prepare.clean.executor import Step, Submitted, require_datatrove, run
from clp_transfer.prepare.job import CleanConfig, ClusterConfig

__all__ = ["Removals", "Submitted", "read_evaluation_texts", "removals"]

log = logging.getLogger(__name__)
EXAMPLES = 5
EXAMPLE_CHARACTERS = 200


@dataclass(frozen=True)
class Removals:
    """The texts that leave the corpus.

    `rows`: chunk number -> row -> reason (`contaminated`, `filter_<name>`, `near_duplicate`), read from the disk a
    chunk at a time. `counts`: texts by reason. `examples`: by reason, the first few as `{"id", "text"}`, the latter
    cut; a near-duplicate's also has `kept`, the text it is much like.
    """

    rows: Mapping[int, dict[int, str]]
    counts: dict[str, int]
    examples: dict[str, list[dict[str, Any]]]


def removals(
    chunks: Path,
    config: CleanConfig,
    language: str,
    work: Path,
    cluster: ClusterConfig,
    evaluation: Iterable[str] | None,
    gone: Mapping[int, Collection[int]] | None = None,
) -> Removals:
    """Find what to leave out of a folder of chunks; `work` keeps what is found, so that a killed run goes on.

    `language`: a code such as `de`, for the filters. `evaluation`: texts to keep out of training; None: nothing to
    look for. `gone`: rows, by number of chunk, that have left already: what is found in them is neither counted nor an
    example. Raises UserError for a filter that there is not and for a missing datatrove, and Submitted while SLURM
    jobs have still to be waited for.
    """
    chunks, work = chunks.resolve(), work.resolve()
    steps, folders = _steps(chunks, config, language, work, evaluation is not None)
    index = None if evaluation is None else build(evaluation, config.ngram)
    plan = _plan(chunks, config, language, index)
    _begin(work, plan)
    if index is not None:
        _decontaminate(chunks, index, work / f"index-{plan['evaluation'][:16]}", folders[0], cluster)
    if steps:
        with _timed(f"cleaning ({', '.join(step.name for step in steps)})"):
            run(steps, cluster, work / "datatrove")
    if config.near and not (folders[-1] / "examples.json").exists():
        from clp_transfer.prepare.clean import near

        near.collect(chunks, work / "minhash", folders[-1])
    return _gather(chunks, folders, gone or {})


def _steps(
    chunks: Path, config: CleanConfig, language: str, work: Path, decontaminate: bool
) -> tuple[list[Step], list[Path]]:
    """What datatrove has to do, and the folders of all results in the order in which they come about."""
    steps: list[Step] = []
    folders = [work / "contaminated"] if decontaminate else []
    if config.near or config.filters:
        require_datatrove()
    if config.filters:
        from clp_transfer.prepare.clean import filters

        steps += filters.steps(config.filters, language, chunks, folders, work / "filters")
        folders = [*folders, work / "filters"]
    if config.near:
        from clp_transfer.prepare.clean import near

        steps += near.steps(chunks, folders, work / "minhash")
        folders = [*folders, work / "near"]
    return steps, folders


def _plan(chunks: Path, config: CleanConfig, language: str, index: Index | None) -> dict[str, Any]:
    """Everything that determines the result; the chunks by their names and sizes."""
    needed = config.near or config.filters
    return {
        "chunks": [[path.name, path.stat().st_size] for path in chunk_paths(chunks)],
        "near": config.near,
        "filters": list(config.filters),
        "language": language if config.filters else None,
        "ngram": None if index is None else config.ngram,
        "evaluation": None if index is None else hashlib.sha256(index.hashes.data).hexdigest(),
        "datatrove": importlib.metadata.version("datatrove") if needed else None,
    }


def _begin(work: Path, plan: dict[str, Any]) -> None:
    """Go on with what `work` has, or empty it where that answers another question."""
    if not (work / "plan.json").exists() or read_json(work / "plan.json") != plan:
        shutil.rmtree(work, ignore_errors=True)
        write_json(work / "plan.json", plan)


@contextmanager
def _timed(what: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    log.info("%s: done (%.1f s)", what, time.perf_counter() - started)


def _decontaminate(chunks: Path, index: Index, saved: Path, results: Path, cluster: ClusterConfig) -> None:
    """Mark the chunks that are not yet, each by a process of its own; SLURM or not, that happens on this machine."""
    todo = [path for path in chunk_paths(chunks) if not rows.path(results, int(path.stem)).exists()]
    if not todo:
        return
    index.save(saved)
    cores = len(os.sched_getaffinity(0))
    workers = min(cores if cluster.name == "slurm" else cluster.workers or cores, len(todo))
    with _timed(f"decontamination against {len(index.hashes):,} runs of words"):
        if workers == 1:
            for path in todo:
                mark_chunk(path, saved, results)
            return
        # Not a fork: this process has threads (Arrow's, PyTorch's), whose locks a fork would copy.
        with ProcessPoolExecutor(workers, multiprocessing.get_context("forkserver")) as pool:
            for done in as_completed([pool.submit(mark_chunk, path, saved, results) for path in todo]):
                done.result()


def _gather(chunks: Path, folders: list[Path], gone: Mapping[int, Collection[int]]) -> Removals:
    """Count what the steps found, and look up the first few texts of each reason."""
    paths = {int(path.stem): path for path in chunk_paths(chunks)}
    counts: Counter[str] = Counter()
    examples: dict[str, list[dict[str, Any]]] = {}
    for chunk, path in paths.items():
        left = set(gone.get(chunk, ()))
        for reason, rules in rows.read(folders, chunk).items():
            new = sorted(row for found in rules.values() for row in found if row not in left)
            counts[reason] += len(new)
            few = new[: EXAMPLES - len(examples.get(reason, []))]
            if few and reason != "near_duplicate":
                texts = _look_up(path, few)
                examples.setdefault(reason, []).extend(texts[row] for row in few)
    pairs = [pair for f in folders if (f / "examples.json").exists() for pair in read_json(f / "examples.json")]
    for pair in pairs[:EXAMPLES]:
        removed = _look_up(paths[pair["chunk"]], [pair["row"]])[pair["row"]]
        kept = _look_up(paths[pair["kept_chunk"]], [pair["kept_row"]])[pair["kept_row"]]
        examples.setdefault("near_duplicate", []).append({**removed, "kept": kept})
    return Removals(rows.ChunkRows(folders, list(paths)), dict(+counts), examples)


def _look_up(path: Path, wanted: list[int]) -> dict[int, dict[str, Any]]:
    """The ids and the beginnings of some rows' texts."""
    found: dict[int, dict[str, Any]] = {}
    row = 0
    for ids, texts in read_chunk(path):
        for number in wanted:
            if row <= number < row + len(ids):
                found[number] = {"id": ids[number - row], "text": texts[number - row][:EXAMPLE_CHARACTERS]}
        row += len(ids)
        if len(found) == len(wanted):
            break
    return found
