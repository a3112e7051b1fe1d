"""What a method knows of rows that it has not seen: overlapping ones are hidden and made again, with every helper.

python -m clp_transfer.ablations.reconstruction outputs mini-ablations

looks for the helpers that the experiment and its ablations have trained, trains nothing, and writes
`outputs/mini-ablations/ablations/reconstruction.json`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clp_transfer.cli.screen import one_screen
from clp_transfer.clp.auto import held_out
from clp_transfer.clp.job import MethodConfig
from clp_transfer.clp.models import Ingredients
from clp_transfer.errors import UserError
from clp_transfer.files import write_json
from clp_transfer.report.seeds import interval, mean
from clp_transfer.report.words import plus_minus

BASE = "base"
METHODS = {
    "mean": MethodConfig("mean"),
    "gaussian": MethodConfig("gaussian"),
    "clp": MethodConfig("clp"),
    "clp, cut": MethodConfig("clp", negative="cut"),
    "clp, centred, cut": MethodConfig("clp", centre=True, negative="cut"),
    "clp-topk": MethodConfig("clp-topk"),
    "procrustes": MethodConfig("procrustes"),
    "omp": MethodConfig("omp"),
    "ridge": MethodConfig("ridge", ridge=1.0),
}


def helpers(outputs: Path, name: str) -> dict[str, dict[int, Path]]:
    """The helpers' model folders by seed: the experiment's own, and those of its ablations by `<ablation>-<label>`.

    Raises UserError where the experiment has none.
    """
    found: dict[str, dict[int, Path]] = {}
    for home in [outputs / name, *sorted(outputs.glob(f"{name}-helper-*"))]:
        label = home.name.removeprefix(name).removeprefix("-") or BASE
        for run in sorted(home.glob("runs/helper,seed*/model")):
            number_of = re.search(r"seed(\d+)$", run.parent.name)
            if number_of:
                found.setdefault(label, {})[int(number_of[1])] = run
    if BASE not in found:
        raise UserError(f"there is no helper in {outputs / name / 'runs'}", "run make ablate ABLATION=method first")
    return found


def reconstruct(source: Path, found: dict[str, dict[int, Path]]) -> dict[str, Any]:
    """For every helper and method: cosine with the hidden rows, and squared error as a share of that of the mean.

    Both are taken from the overlap's mean, over five folds; means over seeds with 95% intervals. See clp/auto.py.
    """
    table: dict[str, Any] = {}
    for label, by_seed in found.items():
        scores = [held_out(Ingredients.open(source, [m]), list(METHODS.values()), s) for s, m in by_seed.items()]
        table[label] = {
            method: _over_seeds([of_seed[index] for of_seed in scores]) for index, method in enumerate(METHODS)
        }
    return {"seeds": {label: sorted(by_seed) for label, by_seed in found.items()}, "helpers": table}


def _over_seeds(scores: Sequence[Any]) -> dict[str, Any]:
    cosines, errors = [s.cosine for s in scores], [s.error for s in scores]
    return {
        "cosine": mean(cosines), "cosine_interval": interval(cosines),
        "error": mean(errors), "error_interval": interval(errors),
    }  # fmt: skip


def table(found: dict[str, Any]) -> str:
    """Methods down; cosine with every helper, and the error with the experiment's own. Markdown."""
    labels = list(found["helpers"])
    head = ["method", f"error, {BASE}", *(f"cosine, {label}" for label in labels)]
    lines = [f"| {' | '.join(head)} |", "|---|" + "--:|" * (len(head) - 1)]
    for method, base in found["helpers"][BASE].items():
        cells = [_cell(base, "error", 2), *(_cell(found["helpers"][label][method], "cosine", 2) for label in labels)]
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(row: dict[str, Any], measure: str, digits: int) -> str:
    return plus_minus(row[measure], row[f"{measure}_interval"], digits)


if __name__ == "__main__":
    outputs, name = Path(sys.argv[1]), sys.argv[2]
    with one_screen():
        result = reconstruct(outputs / name / "runs" / "source" / "model", helpers(outputs, name))
        write_json(outputs / name / "ablations" / "reconstruction.json", result)
        print(table(result))
