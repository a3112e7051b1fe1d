"""The evaluate stage: perplexity, the zero-shot task and samples of one trained model."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

from clp_transfer.evaluate.harness import domain_task
from clp_transfer.evaluate.job import EvaluateJob
from clp_transfer.evaluate.load import load_model, load_tokenizer, use_threads
from clp_transfer.evaluate.perplexity import POLICY, measure
from clp_transfer.evaluate.samples import continuations
from clp_transfer.files import read_json, write_json
from clp_transfer.manifest import writing
from clp_transfer.packed import PackedCorpus

log = logging.getLogger(__name__)


def evaluate(job: EvaluateJob) -> None:
    """Measure a model folder and write `results.json`: `perplexity`, `tasks`, `samples`.

    The perplexity, the longest part, is kept as soon as it is known: an interrupted run goes on after it. Raises
    UserError for a tokenizer that does not fit the model, a loss that is not finite, and broken data.
    """
    use_threads(job.config.threads)
    with writing(job.plan()) as working:
        model = load_model(job.model)
        tokenizer = load_tokenizer(job.model, model)
        partial = working / "perplexity.json"
        perplexity = read_json(partial) if partial.is_file() else _perplexity(job, model, partial)
        results = {
            "perplexity": perplexity,
            "tasks": _tasks(job, model, tokenizer),
            "samples": continuations(
                model,
                tokenizer,
                job.config.prompts,
                tokens=job.config.sample_tokens,
                eos_id=PackedCorpus(job.validation_pack).eos_id,
                seed=job.seed,
            ),
        }
        write_json(working / "results.json", results)
        partial.unlink()


def _perplexity(job: EvaluateJob, model: Any, keep: Path) -> dict[str, Any]:
    """Measure the validation pack, or its head, and keep the result in a file."""
    started, pack = time.time(), PackedCorpus(job.validation_pack)
    tokens, documents = pack.head(job.config.max_bytes)
    found = measure(
        model,
        tokens,
        documents,
        eos_id=pack.eos_id,
        window=job.config.window,
        batch_size=job.config.batch_size,
    )
    seconds = time.time() - started
    log.info(
        "%s: %.3f nats per token, %.3f bits per byte on %s tokens (%.0f s, %.0f tokens/s)",
        job.model,
        found.nats_per_token,
        found.bits_per_byte,
        f"{found.tokens:,}",
        seconds,
        found.tokens / seconds,
    )
    result = {**found.as_dict(), "window": job.config.window, "policy": POLICY}
    write_json(keep, result)
    return result


def _tasks(job: EvaluateJob, model: Any, tokenizer: Any) -> dict[str, Any]:
    """The zero-shot task's results by name; empty where the job has no task."""
    if job.task is None:
        return {}
    started = time.time()
    found = domain_task(
        model,
        tokenizer,
        job.task,
        job.labels,
        batch_size=job.config.batch_size,
        limit=job.config.task_documents,
    )
    log.info(
        "domains: accuracy %.3f on %d documents (random %.3f, majority %.3f; %.0f s)",
        found["acc"],
        found["documents"],
        found["random"],
        found["majority"],
        time.time() - started,
    )
    return {"domains": found}
