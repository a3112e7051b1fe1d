"""Keep an experiment's numbers in the repository, and rebuild the README's table from what is kept.

python -m clp_transfer.report.publish outputs/mini/report results/mini     keep the numbers and the figures
python -m clp_transfer.report.publish results/mini                         rebuild the README's table
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

from clp_transfer.files import read_json, write_json, write_text
from clp_transfer.report.headline import headline
from clp_transfer.report.words import NONE, number, percent, rate, unreached

START, END = "<!-- result -->", "<!-- /result -->"
# Numbers only: the samples are text, and the config and the folders' names say nothing that the commit does not.
KEPT = (
    "name", "seeds", "arms", "tokens_saved", "helper_flops", "ablations", "step0", "tasks", "texts", "statistics",
    "cost", "provenance",
)  # fmt: skip


def keep(report: Path, results: Path) -> None:
    """Copy a report's numbers (no text, no weights) and its figures into a folder of the repository."""
    found = {part: value for part, value in read_json(report / "results.json").items() if part in KEPT}
    found["arms"] = {
        name: {part: value for part, value in arm.items() if part != "samples"} for name, arm in found["arms"].items()
    }
    write_json(results / "results.json", found)
    for figure in sorted((report / "figures").glob("*.png")):
        shutil.copyfile(figure, results / figure.name)


def readme_block(found: dict[str, Any]) -> str:
    """The README's result: one sentence, the table of the arms, and the step-0 values; Markdown."""
    head = "| arm | peak rate | final bits/byte | tokens saved | compute saved, helper counted | SmolLM2 at step 0 |"
    lines = [f"**{headline(found)}**", "", head, "|---|--:|--:|--:|--:|--:|"]
    step0 = found["step0"].get("smollm2", {})
    for name, arm in found["arms"].items():
        saved = found["tokens_saved"].get(name)
        shares = [NONE, NONE]
        if saved is not None:
            shares = [
                percent(saved["saved"]) if saved["reached"] else unreached(saved),
                percent(saved["saved_flops_counting_the_helper"]),
            ]
        cells = [f"`{name}`", rate(arm["lr"]), number(arm["final"]["bits_per_byte"], 3), *shares]
        lines.append(f"| {' | '.join([*cells, number(step0.get(name), 2)])} |")
    own = number(step0.get("own_tokenizer"), 2)
    lines += ["", f"SmolLM2-135M with its own tokenizer reads the same German at {own} bits per byte."]
    return "\n".join(lines)


def rebuild(results: Path, readme: Path) -> None:
    """Put the block between the README's marks."""
    text = readme.read_text(encoding="utf-8")
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    block = readme_block(read_json(results / "results.json"))
    write_text(readme, f"{before}{START}\n{block}\n{END}{after}")


if __name__ == "__main__":
    if len(sys.argv) == 3:
        keep(Path(sys.argv[1]), Path(sys.argv[2]))
    rebuild(Path(sys.argv[-1]), Path("README.md"))
