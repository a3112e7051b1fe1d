"""The evaluate stage: perplexity, zero-shot tasks and samples of one model."""

from __future__ import annotations

import logging
import shutil
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from clp_transfer.clp.checkpoint.locate import locate
from clp_transfer.errors import UserError
from clp_transfer.evaluate.harness import domain_task
from clp_transfer.evaluate.job import PACK, EvaluateJob, failed_tasks
from clp_transfer.evaluate.likelihood import Likelihood, default_precision
from clp_transfer.evaluate.load import load_model, load_tokenizer, use_threads
from clp_transfer.evaluate.ranks import group
from clp_transfer.evaluate.samples import continuations
from clp_transfer.evaluate.score import Cutting, score
from clp_transfer.evaluate.scores import Scores
from clp_transfer.evaluate.texts import Text, from_files, from_pack
from clp_transfer.evaluate.tokens import Tokens, window_length
from clp_transfer.evaluate.windows import strides
from clp_transfer.files import read_json, sha256_json, write_json
from clp_transfer.manifest import Plan, is_complete, writing
from clp_transfer.packed import PackedCorpus
from clp_transfer.train.together import WriteFailed, on_main, rank, together

log = logging.getLogger(__name__)

BATCH = 32  # of task documents, where the config leaves it to us
KEPT = "kept-"  # how the files begin that an interrupted run, or one with a failed task, goes on from


def evaluate(job: EvaluateJob) -> None:
    """Measure a model and write `results.json`: `perplexity`, `texts`, `tasks`, `samples`.

    Under a launcher the ranks share the texts' windows, and rank 0 writes. What is done is kept, text by text and then
    the labelled task: an interrupted run goes on after it. Raises UserError for a model that is none or cannot be
    reached, a tokenizer that does not fit it, a text that is empty, and a loss that is not finite.
    """
    use_threads(job.config.threads)
    plan = job.plan()
    with group() as device, ExitStack() as stack:
        _begin(plan, stack)
        precision = job.config.precision or default_precision(device)
        results = _evaluate(job, plan, device, precision)
        if rank() == 0:
            write_json(plan.working / "results.json", results)
            if not failed_tasks(results):
                _forget(plan.working)


def _evaluate(job: EvaluateJob, plan: Plan, device: str, precision: str) -> dict[str, Any]:
    """The results; empty on ranks above 0, which share the texts and the zero-shot tasks, but not what is small."""
    folder = on_main(lambda: _folder(job))
    model, tokenizer = together(lambda: _load(job, folder, device, precision))
    perplexity = _perplexity(job, plan, folder, model, tokenizer, precision) if _has_text(job) else {"perplexity": None}
    tasks = _zero_shot(job, plan, model, tokenizer) if job.tasks else {}
    if rank() > 0:
        return {}
    return {
        **perplexity,
        "tasks": _domains(job, plan, model, tokenizer, precision) | tasks,
        "samples": continuations(
            model,
            tokenizer,
            job.config.prompts,
            tokens=job.config.sample_tokens,
            eos_id=_end(job, folder, tokenizer),
            seed=job.seed,
        ),
    }


def _kept(plan: Plan, what: str, precision: str, suffix: str) -> Path:
    """The file that keeps what was measured: of one text by name and content, or of the task, in one precision.

    The plan does not know the precision where the config leaves it open, nor the order of the texts.
    """
    content = plan.inputs.get(f"text {what}", plan.inputs.get("validation")) if suffix == "npz" else plan.inputs["task"]
    return plan.working / f"{KEPT}{sha256_json([what, content, precision])[:16]}.{suffix}"


def _begin(plan: Plan, stack: ExitStack) -> None:
    """Take the result's lock on rank 0, so that every rank hears where another process holds it.

    What a finished result with a failed task has kept is copied: only that task is measured again.
    """

    def begin() -> None:
        stack.enter_context(writing(plan))
        if is_complete(plan):
            for path in plan.out.glob(f"{KEPT}*"):
                shutil.copy2(path, plan.working / path.name)

    try:
        on_main(begin)
    except WriteFailed as error:
        if error.__cause__ is None:  # another rank's
            raise
        raise error.__cause__ from None


def _forget(working: Path) -> None:
    """Delete what is kept: all is measured."""
    for path in working.glob(f"{KEPT}*"):
        path.unlink()


def _folder(job: EvaluateJob) -> Path:
    """The model's folder, fetched or converted if need be; of a hub model the very commit that the plan names."""
    return locate(
        job.model,
        revision=job.model_key if job.is_on_hub else None,
        trust_remote_code=job.config.trust_remote_code,
        cache=job.cache / "models",
    )


def _load(job: EvaluateJob, folder: Path, device: str, precision: str) -> tuple[Any, Any]:
    """The model, in float32 unless a half precision lets weights stay as they are stored, and its tokenizer."""
    trust = job.config.trust_remote_code
    dtype = {} if precision == "fp32" else {"dtype": "auto"}
    model = load_model(folder, device=device, trust_remote_code=trust, **dtype)  # type: ignore[arg-type]
    return model, load_tokenizer(folder, model, trust_remote_code=trust)


def _has_text(job: EvaluateJob) -> bool:
    return bool(job.texts) or job.validation_pack is not None


def _end(job: EvaluateJob, folder: Path, tokenizer: Any) -> int:
    """The token that closes a document: the pack's, where the pack is in the model's own tokens."""
    pack = None if job.validation_pack is None else PackedCorpus(job.validation_pack)
    if pack is not None and pack.made_by(folder):
        return pack.eos_id
    return Tokens(tokenizer).end


def _perplexity(
    job: EvaluateJob, plan: Plan, folder: Path, model: Any, tokenizer: Any, precision: str
) -> dict[str, Any]:
    """`perplexity`, and `texts` where texts are named; each text's scores are kept in a file when they are there.

    `perplexity` is that of the validation pack, without one that of all texts together.
    """
    config = job.config
    window = together(lambda: window_length(model, tokenizer, config.window))
    cutting = Cutting(config.windows, window, strides(config.windows, window, config.stride))
    tokens = together(lambda: Tokens(tokenizer))
    likelihood = Likelihood(model, precision, config.batch_size)
    begins = {} if config.windows == "stream" else {"bos": tokens.about()}
    shared = {**cutting.about(), **begins, "precision": precision}
    records, all_scores = {}, []
    for name in [*([PACK] if job.validation_pack is not None else []), *job.texts]:
        kept = _kept(plan, name, precision, "npz")
        text = together(lambda name=name: _text(job, name, folder, tokens))  # type: ignore[misc]
        started = time.time()
        if on_main(kept.is_file):
            scores = on_main(lambda kept=kept: Scores.load(kept))  # type: ignore[misc]
        else:
            scores = score(likelihood, text, cutting)
            on_main(lambda kept=kept, scores=scores: scores.save(kept))  # type: ignore[misc]
            _say(job, name, scores, time.time() - started)
        about = {**shared, **text.about}
        records[name] = scores.record(resamples=config.bootstrap, seed=job.seed, about=about)
        all_scores.append(scores)
    if job.validation_pack is not None:
        texts = {"texts": {name: records[name] for name in job.texts}} if job.texts else {}
        return {"perplexity": records[PACK], **texts}
    union = Scores.union(all_scores).record(resamples=config.bootstrap, seed=job.seed, about=shared)
    return {"perplexity": union, "texts": records}


def _text(job: EvaluateJob, name: str, folder: Path, tokens: Tokens) -> Text:
    """A named text, or the validation pack."""
    stream = job.config.windows == "stream"
    if name in job.texts:
        return from_files(name, job.texts[name], tokens, max_bytes=job.config.max_bytes, stream=stream)
    if job.validation_pack is None:
        raise UserError("there is no text to measure on", "name some: texts={news: file.jsonl}")
    return from_pack(job.validation_pack, job.tokenizer, folder, tokens, max_bytes=job.config.max_bytes, stream=stream)


def _say(job: EvaluateJob, name: str, scores: Scores, seconds: float) -> None:
    found = scores.total()
    log.info(
        "%s, %s: %.3f nats per token, %.3f bits per byte on %s tokens (%.0f s, %.0f tokens/s)",
        job.model,
        name,
        found.nats_per_token,
        found.bits_per_byte,
        f"{found.tokens:,}",
        seconds,
        found.tokens / max(seconds, 1e-9),
    )


def _zero_shot(job: EvaluateJob, plan: Plan, model: Any, tokenizer: Any) -> dict[str, Any]:
    """The rows of the tasks that are named; each finished one is kept in the cache."""
    from clp_transfer.evaluate.zero_shot import zero_shot

    return zero_shot(
        model,
        tokenizer,
        job.tasks,
        data_dir=job.data_dir,
        limit=job.limit,
        fewshot=job.config.fewshot,
        batch_size=job.config.batch_size or BATCH,
        cache=job.cache / "tasks",
        model_key=dict(plan.inputs)["model"],
        seed=job.seed,
    )


def _domains(job: EvaluateJob, plan: Plan, model: Any, tokenizer: Any, precision: str) -> dict[str, Any]:
    """The row of the experiment's labelled task, kept in a file as soon as it is there."""
    if job.task is None:
        return {}
    kept = _kept(plan, "domains", precision, "json")
    if kept.is_file():
        return {"domains": read_json(kept)}
    started, size = time.time(), job.config.batch_size or BATCH
    limit = job.config.task_documents if job.limit is None else job.limit
    found = domain_task(model, tokenizer, job.task, job.labels, batch_size=size, limit=limit)
    log.info(
        "domains: accuracy %.3f on %d documents (random %.3f, majority %.3f; %.0f s)",
        found["acc"],
        found["documents"],
        found["random"],
        found["majority"],
        time.time() - started,
    )
    write_json(kept, found)
    return {"domains": found}
