"""Merge any runs into one comparison: tables, figures and a page.

python -m clp_transfer.report outputs/a outputs/b -o outputs/comparison
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from clp_transfer.cli.screen import one_screen, start_logging

log = logging.getLogger("clp_transfer.report")


def main(arguments: list[str] | None = None) -> None:
    """Find the runs below the given folders, and report on them; a mistake is told on one screen, with status 2."""
    parser = argparse.ArgumentParser(prog="python -m clp_transfer.report", description=__doc__)
    parser.add_argument(
        "paths",
        type=Path,
        nargs="+",
        metavar="FOLDER",
        help="an experiment (outputs/mini), one of its runs or evaluations, or an earlier report (results/mini)",
    )
    parser.add_argument("-o", "--out", type=Path, default=Path("outputs/comparison"), help="where to write the report")
    asked = parser.parse_args(arguments)
    start_logging()
    with one_screen():
        from clp_transfer.report.find import find
        from clp_transfer.report.run import report, stands

        job = find(asked.paths, asked.out.expanduser())
        if stands(job):
            log.info("%s is complete and unchanged: nothing to do", job.out)
        else:
            report(job)


if __name__ == "__main__":
    main()
