"""The numbers of an earlier report (`results/<name>/results.json`), as arms to compare new runs with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from clp_transfer.errors import UserError
from clp_transfer.files import read_json
from clp_transfer.report.job import ingredient
from clp_transfer.report.records import Arm, point


def arms_of(path: Path, experiment: str, apart: bool = False) -> list[Arm]:
    """Every arm and seed of a `results.json`, called by its name, or `apart` by its experiment and name.

    Raises UserError where the file holds no arms.
    """
    found = read_json(path)
    if not isinstance(found, dict) or not found.get("arms"):
        raise UserError(f"{path} holds no arms", "give a report's results.json, or an experiment's folder")
    arms = []
    for name, arm in found["arms"].items():
        home, base = _home(found, arm, experiment), arm.get("base", name)
        label = f"{home}/{base}" if apart else name
        for seed, record in arm["seeds"].items():
            evaluation: dict[str, Any] = {"perplexity": record["final"]} if record.get("final") else {}
            evaluation["tasks"] = _tasks(found.get("tasks", {}), name)
            evaluation["samples"] = arm.get("samples", [])
            summary = {"lr": arm.get("lr"), "parameters": arm.get("parameters"), **record.get("summary", {})}
            transfer = {**(arm.get("transfer") or {}), "warnings": record.get("warnings", [])}
            transfer.setdefault("method", arm.get("method", name))
            seconds = {part: float(record.get("seconds", {}).get(part, 0.0)) for part in ("init", "run", "evaluation")}
            curve = [point(one) for one in record["curve"]]
            arms.append(Arm(label, int(seed), curve, summary, evaluation, transfer, seconds, home, base))
    return arms


def _tasks(tasks: dict[str, Any], name: str) -> dict[str, Any]:
    """The arm's rows, with what stands once for the whole task."""
    rows = {}
    for task, record in tasks.items():
        row = record.get(name, {})
        if "distinguishable" in row or "error" in row or "bits_per_byte" in row:
            shared = {key: value["acc"] for key, value in record.get("baselines", {}).items()}
            rows[task] = {**row, **shared, "documents": record.get("documents"), "labels": record.get("labels", [])}
    return rows


def _home(found: dict[str, Any], arm: dict[str, Any], experiment: str) -> str:
    """The arm's experiment; of a report that merged several, with the name that each had there."""
    inner = arm.get("experiment") if len(found.get("experiments", [])) > 1 else None
    return f"{experiment}/{inner}" if inner else experiment


def ingredients_of(path: Path, experiment: str) -> dict[str, dict[str, Any]]:
    """What training each helper took, by `<experiment>/helper`; older reports say it in their table of costs only."""
    found = read_json(path)
    rows = {row["stage"]: row for row in found.get("cost", {}).get("rows", [])}
    flops = found.get("helper_flops") or {"": rows.get("train the helper", {}).get("flops")}
    homes = {_home(found, {"experiment": inner}, experiment): value for inner, value in flops.items()}
    return {ingredient(home, "helper"): {"flops": value} for home, value in homes.items() if value is not None}


def step0_of(path: Path) -> dict[str, dict[str, Any]]:
    """The step-0 tables of a report, by source."""
    return {source: {"bits_per_byte": bits} for source, bits in read_json(path).get("step0", {}).items()}


def statistics_of(path: Path) -> dict[str, Any]:
    """What a report says of its data."""
    return dict(read_json(path).get("statistics") or {})
