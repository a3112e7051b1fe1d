"""Write an ablation's numbers, table and picture; keep them in the repository; put its table into the docs.

python -m clp_transfer.ablations.publish outputs/mini-ablations/ablations results/mini-ablations    keep, and rebuild
python -m clp_transfer.ablations.publish results/mini-ablations                                     rebuild
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path
from typing import Any

from clp_transfer.ablations.table import table
from clp_transfer.files import read_json, write_json, write_text

DOCS = Path("docs/findings.md")
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
    """Copy every ablation's numbers and picture into a folder of the repository; returns their names."""
    names = []
    for path in sorted(outputs.glob("*/ablation.json")):
        name = path.parent.name
        write_json(results / f"{name}.json", read_json(path))
        shutil.copyfile(path.with_name("figure.png"), results / f"{name}.png")
        names.append(name)
    return names


def rebuilt(text: str, results: Path) -> str:
    """The document with the table of every ablation that it marks made anew from what is kept."""
    return MARK.sub(lambda found: found[1] + table(read_json(results / f"{found[2]}.json")) + "\n" + found[3], text)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        keep(Path(sys.argv[1]), Path(sys.argv[2]))
    write_text(DOCS, rebuilt(DOCS.read_text(encoding="utf-8"), Path(sys.argv[-1])))
