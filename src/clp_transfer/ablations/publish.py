"""Write an ablation's numbers, table and picture; keep them in the repository; put its table into the docs.

`make keep EXPERIMENT=mini-ablations` and `make results` call this (report/publish.py).
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from clp_transfer.ablations import reconstruction
from clp_transfer.ablations.table import table, titled
from clp_transfer.files import read_json, write_json, write_text
from clp_transfer.report.marks import UNMEASURED, renewed

DOCS = Path("docs/findings.md")
RECONSTRUCTION = "reconstruction"


def write(found: dict[str, Any], folder: Path) -> None:
    """`ablation.json`, `table.md`, `figure.png` and `figure.svg`."""
    write_json(folder / "ablation.json", found)
    write_text(folder / "table.md", titled(found) + "\n")
    _draw(found, folder / "figure")


def _draw(found: dict[str, Any], path: Path) -> None:
    from clp_transfer.ablations.figure import figure
    from clp_transfer.report.canvas import styled, write

    with styled():
        write(figure(found), path)


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


def redrawn(folder: Path) -> list[Path]:
    """Draw those pictures anew that lie beside an ablation's kept numbers; returns them."""
    beside = [path for path in sorted(folder.glob("*.json")) if path.with_suffix(".png").is_file()]
    kept = {path.with_suffix(".png"): found for path in beside if "axis" in (found := read_json(path))}
    aside = folder / ".figures"
    try:
        for path, found in kept.items():
            aside.mkdir(exist_ok=True)
            _draw(found, aside / "figure")
            (aside / "figure.png").replace(path)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return list(kept)


def rebuilt(text: str, results: Path) -> str:
    """The document with the table of every ablation that it marks made anew from what is kept."""
    return renewed(text, "ablation", lambda name: _table(results, name))


def _table(results: Path, name: str) -> str:
    if not (results / f"{name}.json").is_file():
        return UNMEASURED
    kept = read_json(results / f"{name}.json")
    return reconstruction.table(kept) if name == RECONSTRUCTION else table(kept)
