"""The transfer stage: a target model folder from a source, a helper and a method."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

from clp_transfer.clp.api import transfer as transfer_models
from clp_transfer.clp.job import TransferJob
from clp_transfer.clp.methods import SCRATCH
from clp_transfer.clp.provenance import explain, read_provenance
from clp_transfer.clp.result import check_out, readable_errors
from clp_transfer.clp.scratch import write_scratch
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
        if job.method.name == SCRATCH:
            report = write_scratch(job, working)
        else:
            result = transfer_models(
                job.source,
                job.helpers,
                job.method,
                tokenizer=job.tokenizer,
                text=job.text,
                validation=job.validation,
                seed=job.seed,
                language=job.language,
                device=job.device,
                **job.where,
            )
            report = result.write(working, pad_to_multiple_of=job.pad_to_multiple_of, links=job.links)
    log.info("%s: %s %.1f s, %s", job.method.name, _overlap_line(report), time.time() - started, job.out)
    return report


def explain_text(job: TransferJob, text: str) -> str:
    """How the rows of a text's tokens in the finished model at `job.out` were made."""
    from clp_transfer.clp.checkpoint.tokenizer import load_tokenizer

    return explain(read_provenance(job.out), load_tokenizer(job.out, job.trust_remote_code), text)


def _overlap_line(report: dict[str, Any]) -> str:
    overlap = report["overlap"]
    share = overlap["shared"] / overlap["target"]
    return f"{overlap['shared']:,} of {overlap['target']:,} tokens ({share:.1%}) are the source's too."
