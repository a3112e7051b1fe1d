"""What an ablation's runs say: one row for every variant and arm, with its intervals over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from clp_transfer.ablations.job import AblationConfig
from clp_transfer.ablations.spread import spread
from clp_transfer.ablations.steps import REFERENCE, Cell
from clp_transfer.files import read_json
from clp_transfer.report.records import read_curve
from clp_transfer.report.savings import share_saved, tokens_at
from clp_transfer.report.seeds import interval, mean
from clp_transfer.train.job import RunFolder

MEASURES = ("start", "final", "saved")


def collect(ablation: AblationConfig, cells: Sequence[Cell]) -> dict[str, Any]:
    """The ablation as plain numbers: the question, and `rows` in the order of the variants, then the arms.

    A row's `start` and `final` are held-out bits per byte before and after training, `saved` is
    1 - tokens(B) / scratch's tokens(B) with B the final bits per byte of scratch, of the same data and seed: means over
    seeds, each beside its 95% interval (Student's t; null for one seed). `saved` is null where a seed does not reach B,
    `reached` says how many do. `spread`: the mean over seeds of what ablations/spread.py says.
    """
    rows = [_row(ablation, list(same)) for _, same in groupby(cells, key=lambda cell: (cell.label, cell.arm))]
    about = {key: getattr(ablation, key) for key in ("name", "question", "axis", "own", "variants")}
    return {**about, "rows": rows}


def _row(ablation: AblationConfig, cells: list[Cell]) -> dict[str, Any]:
    runs = [_run(cell) for cell in cells]
    row: dict[str, Any] = {"label": cells[0].label, "arm": cells[0].arm}
    for name in MEASURES:
        known = [run[name] for run in runs if run[name] is not None]
        whole = len(known) == len(runs)
        row[name] = mean(known) if whole else None
        row[f"{name}_interval"] = interval(known) if whole else None
    row["reached"] = sum(run["saved"] is not None for run in runs)
    spreads = [run["spread"] for run in runs if "spread" in run]
    row["spread"] = mean(spreads) if len(spreads) == len(runs) else None
    return {**row, "runs": runs}


def _run(cell: Cell) -> dict[str, Any]:
    """One trained model: its curve, its saving, and what its ingredients were."""
    folder = RunFolder(cell.run)
    curve, scratch = (_curve(RunFolder(path)) for path in (cell.run, cell.reference))
    target = scratch[-1][1]
    summary = read_json(folder.summary)
    saved = share_saved(tokens_at(curve, target), tokens_at(scratch, target))
    return {
        "seed": cell.seed,
        "start": curve[0][1],
        "final": curve[-1][1],
        "saved": None if cell.arm == REFERENCE else saved,
        "curve": curve,
        "tokens": summary["tokens"],
        "parameters": summary["parameters"],
        "lr": summary["lr"],
        **_start(cell),
        "helper": _helper(RunFolder(cell.helper)),
    }


def _curve(folder: RunFolder) -> list[tuple[float, float]]:
    return [(point["tokens"], point["bits_per_byte"]) for point in read_curve(folder.metrics)]


def _start(cell: Cell) -> dict[str, Any]:
    """Overlap, conditioning and spread of the arm's transfer; scratch has none."""
    path = cell.init / "transfer.json"
    found = read_json(path) if path.is_file() else {}
    overlap = found.get("overlap") or {}
    return {
        "overlap": {key: overlap[key] for key in ("shared", "target") if key in overlap},
        "ill_conditioned": (found.get("diagnostics") or {}).get("ill_conditioned"),
        **spread(cell.init),
    }


def _helper(folder: RunFolder) -> dict[str, Any]:
    summary = read_json(folder.summary)
    return {
        "parameters": summary["parameters"],
        "tokens": summary["tokens"],
        "bits_per_byte": summary["final"]["bits_per_byte"],
    }
