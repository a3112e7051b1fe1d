"""Stage `report`: read all results, write `results.json`, the figures, the tables and the page."""

from __future__ import annotations

import logging
from typing import Any

from clp_transfer import manifest
from clp_transfer.errors import UserError
from clp_transfer.files import write_json, write_text
from clp_transfer.report.assemble import assemble
from clp_transfer.report.collect import collect
from clp_transfer.report.figures import draw
from clp_transfer.report.job import ReportJob
from clp_transfer.report.page import page
from clp_transfer.report.tables import tables, write_tables

log = logging.getLogger(__name__)


def report(job: ReportJob) -> dict[str, Any]:
    """Write `results.json`, `index.html`, `figures/*.{png,svg}` and `tables/*.{md,tex}` into `job.out`.

    Returns the results. A run that is missing, unfinished or broken is told on the page. Raises UserError where there
    is no arm at all, and where `job.out` is a folder of something else.
    """
    _refuse_other(job)
    with manifest.writing(job.plan()) as working:
        results = assemble(job, collect(job))
        write_json(working / "results.json", results)
        figures = draw(results, working / "figures")
        write_tables(tables(results), working / "tables")
        write_text(working / "index.html", page(results, figures))
    log.info("report: %s", job.out / "index.html")
    return results


def stands(job: ReportJob) -> bool:
    """Whether the job's report is there already, made from the same files."""
    return manifest.is_complete(job.plan())


def _refuse_other(job: ReportJob) -> None:
    """The output folder is replaced as a whole, so it must be new, empty or a report."""
    out = job.out
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file", "give another folder with -o")
    if out.is_dir() and any(out.iterdir()):
        found = manifest.read(out)
        if (found or {}).get("stage") != "report" and not (out / "index.html").is_file():
            raise UserError(f"{out} holds something that is no report", "give a new folder with -o")
