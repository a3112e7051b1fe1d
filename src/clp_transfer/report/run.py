"""Stage `report`: read all results, write `results.json`, the figures and the page."""

from __future__ import annotations

import logging
from typing import Any

from clp_transfer import manifest
from clp_transfer.files import write_json, write_text
from clp_transfer.report.assemble import assemble
from clp_transfer.report.collect import collect
from clp_transfer.report.figures import draw
from clp_transfer.report.job import ReportJob
from clp_transfer.report.page import page

log = logging.getLogger(__name__)


def report(job: ReportJob) -> dict[str, Any]:
    """Write `results.json`, `index.html` and `figures/*.{png,svg}` into `job.out`; returns the results.

    Raises UserError where a folder that the job names is missing, unfinished or broken.
    """
    with manifest.writing(job.plan()) as working:
        results = assemble(job, collect(job))
        write_json(working / "results.json", results)
        figures = draw(results, working / "figures")
        write_text(working / "index.html", page(results, figures))
    log.info("report: %s", job.out / "index.html")
    return results
