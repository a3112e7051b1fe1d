"""The transfer stage: a target model folder from a source, a helper and a method."""

from __future__ import annotations

import logging
import time
from typing import Any

from clp_transfer.card import write_card
from clp_transfer.clp.job import TransferJob
from clp_transfer.clp.methods import SCRATCH
from clp_transfer.clp.overlap import match
from clp_transfer.clp.surgery import verify, write_scratch, write_target
from clp_transfer.clp.tables import ModelFolder
from clp_transfer.clp.transfer import TransferRows, compute_rows
from clp_transfer.files import write_json
from clp_transfer.manifest import writing

log = logging.getLogger(__name__)


def transfer(job: TransferJob) -> dict[str, Any]:
    """Initialise the target model of one method and seed; returns the report that lies beside it."""
    started = time.time()
    source = ModelFolder(job.source)
    log.info("%s: source %s, helper %s", job.method.name, job.source, job.helper)
    with writing(job.plan()) as working:
        rows: TransferRows | None = None
        if job.method.name == SCRATCH:
            write_scratch(source, job.tokenizer, working, job.seed)
            made = {"overlap": match(source.tokenizer, ModelFolder(job.tokenizer).tokenizer).as_dict()}
        else:
            rows = compute_rows(job.source, job.helper, job.tokenizer, job.method, job.seed)
            made = rows.report
            write_target(source, rows, job.tokenizer, working)
        verify(working, rows)
        report = {
            "method": job.method.name,
            "options": job.method.read_options(),
            "seed": job.seed,
            "diagnostics": {},
            "norms": {},
            "warnings": [],
            **made,
        }
        write_json(working / "transfer.json", report)
        write_card(
            working,
            title=f"{source.path.name} turned to {job.language} by {job.method.name}",
            language=job.language,
            base_model=str(job.source.name),
            body=f"Initialised by `{job.method.name}`, not trained yet. {_overlap_line(report)}",
        )
    log.info("%s: %s %.1f s", job.method.name, _overlap_line(report), time.time() - started)
    return report


def _overlap_line(report: dict[str, Any]) -> str:
    overlap = report["overlap"]
    share = overlap["shared"] / overlap["target"]
    return f"{overlap['shared']:,} of {overlap['target']:,} tokens ({share:.1%}) are the source's too."
