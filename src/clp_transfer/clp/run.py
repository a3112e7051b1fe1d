"""The transfer stage: a target model folder from a source, a helper and a method."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

from clp_transfer.clp.api import chosen_device, method_config, transfer_opened
from clp_transfer.clp.checkpoint.untouched import Untouched
from clp_transfer.clp.job import TransferJob
from clp_transfer.clp.methods import SCRATCH
from clp_transfer.clp.models import Ingredients
from clp_transfer.clp.provenance import explain, read_provenance
from clp_transfer.clp.result import check_out, readable_errors
from clp_transfer.clp.scratch import write_scratch
from clp_transfer.clp.text import TargetText
from clp_transfer.clp.transfer import check_needs
from clp_transfer.manifest import is_complete, writing

log = logging.getLogger(__name__)


def transfer(job: TransferJob) -> dict[str, Any]:
    """Make the target model of one method and seed at `job.out`; returns the report that lies in it.

    What a killed run left beside it is removed first: it cannot be gone on from. Raises UserError where something
    else lies at `job.out` and `overwrite` is not set, where it cannot be written, and for all that `api.transfer`
    refuses.
    """
    started = time.time()
    plan = job.plan()
    if not is_complete(plan):
        named = [job.source, *job.helpers, *([] if job.tokenizer is None else [job.tokenizer])]
        check_out(job.out, job.overwrite, [path for name in named if (path := Path(name).expanduser()).exists()])
    helpers = ", ".join(str(helper) for helper in job.helpers) or "none"
    log.info("%s: source %s, helper %s", job.method.name, job.source, helpers)
    with readable_errors(job.out), writing(plan, afresh=True) as working:
        report = (write_scratch if job.method.name == SCRATCH else _write)(job, working)
    log.info("%s: %s %.1f s, %s", job.method.name, _overlap_line(report), time.time() - started, job.out)
    return report


def _write(job: TransferJob, working: Path) -> dict[str, Any]:
    """Make the model in a folder; the source's files without a table are copied while the tables are being made."""
    device, method = chosen_device(job.device), method_config(job.method, {})
    ingredients = Ingredients.open(job.source, job.helpers, job.tokenizer, **job.where)
    # What is bound to fail is to fail before gigabytes are copied.
    check_needs(ingredients, method, TargetText.of(job.text, ingredients))
    with Untouched(ingredients.source.weights, ingredients.source.layout, working, job.links) as untouched:
        result = transfer_opened(
            ingredients,
            method,
            text=job.text,
            validation=job.validation,
            seed=job.seed,
            language=job.language,
            device=device,
        )
        return result.write(working, pad_to_multiple_of=job.pad_to_multiple_of, links=job.links, untouched=untouched)


def explain_text(job: TransferJob, text: str) -> str:
    """How the rows of a text's tokens in the finished model at `job.out` were made."""
    from clp_transfer.clp.checkpoint.tokenizer import load_tokenizer

    return explain(read_provenance(job.out), load_tokenizer(job.out, job.trust_remote_code), text)


def _overlap_line(report: dict[str, Any]) -> str:
    overlap = report["overlap"]
    share = overlap["shared"] / overlap["target"]
    return f"{overlap['shared']:,} of {overlap['target']:,} tokens ({share:.1%}) are the source's too."
