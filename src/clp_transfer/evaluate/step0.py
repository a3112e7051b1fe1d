"""The step-0 stage: what each method's initialisation is worth on a real source, before any training."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from clp_transfer.clp.body import install
from clp_transfer.clp.models import Ingredients
from clp_transfer.clp.text import TargetText
from clp_transfer.clp.transfer import compute_rows
from clp_transfer.errors import UserError
from clp_transfer.evaluate.job import Step0Job
from clp_transfer.evaluate.likelihood import DTYPES
from clp_transfer.evaluate.load import load_model, use_threads
from clp_transfer.evaluate.perplexity import POLICY, Perplexity, measure
from clp_transfer.evaluate.score import STREAM_ROWS
from clp_transfer.files import read_json, write_json
from clp_transfer.manifest import writing
from clp_transfer.packed import BYTES, PackedCorpus

log = logging.getLogger(__name__)

OWN = "own_tokenizer"


def step0(job: Step0Job) -> None:
    """Write `results.json`: `bits_per_byte` by method and of the source with its own tokenizer, with details.

    The source is loaded once, in float32; each method then brings its own embedding (and head), and the same
    documents are measured. Finished methods are kept, so that an interrupted run goes on. Raises UserError for
    models that do not fit each other and for packs that do not hold the same documents.
    """
    use_threads(job.config.threads)
    with writing(job.plan()) as working:
        texts = {"pack": PackedCorpus(job.pack), "own_pack": PackedCorpus(job.own_pack)}
        documents = _same_documents(texts["pack"], texts["own_pack"], job.config.step0_bytes)
        partial = working / "partial.json"
        details: dict[str, Any] = read_json(partial) if partial.is_file() else {}
        model = load_model(job.source)
        if OWN not in details:
            details[OWN] = _measured(job, model, texts["own_pack"], OWN)
            write_json(partial, details)
        ingredients = Ingredients.open(job.source, job.helpers, job.tokenizer)
        text = TargetText.of(job.text, ingredients)
        for method in job.methods:
            if method.name not in details:
                rows = compute_rows(ingredients, method, job.seed, text=text)
                install(model, rows.input, rows.head, rows.head_bias)
                report = {name: rows.report.get(name) for name in ("warnings", "diagnostics")}
                details[method.name] = _measured(job, model, texts["pack"], method.name) | report
                write_json(partial, details)
        write_json(working / "results.json", _results(job, details, documents))
        partial.unlink()


def _same_documents(pack: PackedCorpus, own: PackedCorpus, size: int) -> NDArray[np.int64]:
    """The index of the documents to measure; raises UserError where the two packs hold different ones."""
    documents, others = pack.head(size)[1], own.head(size)[1]
    if not np.array_equal(documents[:, BYTES:], others[:, BYTES:]):
        raise UserError(
            f"{pack.prefix} and {own.prefix} do not hold the same documents in the same order",
            "run prepare.py again, so that both are packed from one corpus",
        )
    return documents


def _measured(job: Step0Job, model: Any, pack: PackedCorpus, name: str) -> dict[str, Any]:
    """Measure the first documents of a pack, and log a line."""
    started = time.time()
    tokens, documents = pack.head(job.config.step0_bytes)
    dtype, device = DTYPES[job.config.precision or "fp32"], model.device.type
    with torch.autocast(device, dtype=dtype, enabled=dtype is not None):
        found: Perplexity = measure(
            model,
            tokens,
            documents,
            eos_id=pack.eos_id,
            window=job.config.step0_window,
            batch_size=job.config.batch_size or STREAM_ROWS,
        )
    seconds = time.time() - started
    log.info("%s, step 0, %s: %.3f bits per byte (%.0f s)", Path(job.source).name, name, found.bits_per_byte, seconds)
    return {
        "bits_per_byte": found.bits_per_byte,
        "nats_per_token": found.nats_per_token,
        "tokens": found.tokens,
        "seconds": round(seconds, 1),
    }


def _results(job: Step0Job, details: dict[str, Any], documents: NDArray[np.int64]) -> dict[str, Any]:
    names = [OWN, *(method.name for method in job.methods)]
    return {
        "bits_per_byte": {name: details[name]["bits_per_byte"] for name in names},
        "details": {name: {k: v for k, v in details[name].items() if k != "bits_per_byte"} for name in names},
        "bytes": int(documents[:, BYTES].sum()),
        "documents": len(documents),
        "window": job.config.step0_window,
        "policy": POLICY,
    }
