"""Write an ablation's numbers, table and picture; keep them in the repository; put its table into the docs.

`make keep EXPERIMENT=mini-ablations` and `make results` call this (report/publish.py).
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

from clp_transfer.ablations import reconstruction
from clp_transfer.ablations.table import table
from clp_transfer.files import read_json, write_json, write_text

DOCS = Path("docs/findings.md")
RECONSTRUCTION = "reconstruction"
MARK = re.compile(r"(<!-- ablation: ([\w-]+) -->\n).*?(<!-- /ablation -->)", re.DOTALL)


def write(found: dict[str, Any], folder: Path) -> None:
    """`ablation.json`, `table.md`, `figure.png` and `figure.svg`."""
    from clp_transfer.ablations.figure import figure
    from clp_transfer.report.canvas import styled
    from clp_transfer.report.canvas import write as write_figure

    write_json(folder / "ablation.json", found)
    write_text(folder / "table.md", table(found) + "\n")
    with styled():
        write_figure(figure(found), folder / "figure")


def keep(outputs: Path, results: Path) -> list[str]:
    """Copy every ablation's numbers and picture, and the reconstruction's, into a folder of the repository.

    Returns their names.
    """
    names = []
    for path in sorted(outputs.glob("*/ablation.json")):
        name = path.parent.name
        write_json(results / f"{name}.json", read_json(path))
        shutil.copyfile(path.with_name("figure.png"), results / f"{name}.png")
        names.append(name)
    if (outputs / f"{RECONSTRUCTION}.json").is_file():
        write_json(results / f"{RECONSTRUCTION}.json", read_json(outputs / f"{RECONSTRUCTION}.json"))
        names.append(RECONSTRUCTION)
    return names


def rebuilt(text: str, results: Path) -> str:
    """The document with the table of every ablation that it marks made anew from what is kept."""
    return MARK.sub(lambda found: f"{found[1]}{_table(results, found[2])}\n{found[3]}", text)


def _table(results: Path, name: str) -> str:
    if not (results / f"{name}.json").is_file():
        return "*Not measured yet.*"
    kept = read_json(results / f"{name}.json")
    return reconstruction.table(kept) if name == RECONSTRUCTION else table(kept)
