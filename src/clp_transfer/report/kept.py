"""The numbers of an earlier report (`results/<name>/results.json`), as arms to compare new runs with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from clp_transfer.errors import UserError
from clp_transfer.files import read_json
from clp_transfer.report.job import ingredient
from clp_transfer.report.records import Arm, point


def arms_of(path: Path, experiment: str, apart: bool = False, lost: list[dict[str, str]] | None = None) -> list[Arm]:
    """Every arm and seed of a `results.json`, called by its name, or `apart` by its experiment and name.

    What does not hold what it should becomes a row of `lost`, {"run", "reason"} each. Raises UserError where the file
    holds no arms.
    """
    found, rows = _read(path), [] if lost is None else lost
    arms = []
    for name, arm in found["arms"].items():
        seeds = arm.get("seeds") if isinstance(arm, dict) else None
        if not isinstance(seeds, dict) or not seeds:
            rows.append({"run": f"{experiment}: {name}", "reason": f"{path} has no seeds of it"})
            continue
        for seed, record in seeds.items():
            called = f"{experiment}: {name}, seed {seed}"
            try:
                home, base = _home(found, arm, experiment), str(arm.get("base", name))
                label = f"{home}/{base}" if apart else name
                final, reason = _final(record, path)
                arms.append(_arm(found, name, label, home, base, int(seed), {**record, "final": final}))
            except UserError as error:
                reason = error.problem
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                reason = f"{path} does not hold what it should: {type(error).__name__} {error}"
            if reason:
                rows.append({"run": called, "reason": reason})
    return arms


def bases_of(path: Path) -> list[str]:
    """What each arm is called in its own experiment; none where the file is broken, which `arms_of` tells."""
    arms = read_json(path).get("arms")
    pairs = arms.items() if isinstance(arms, dict) else ()
    return [str(arm.get("base", name)) for name, arm in pairs if isinstance(arm, dict)]


def _read(path: Path) -> dict[str, Any]:
    found = read_json(path)
    if not isinstance(found, dict) or not isinstance(found.get("arms"), dict) or not found["arms"]:
        raise UserError(f"{path} holds no arms", "give a report's results.json, or an experiment's folder")
    return found


def _arm(found: dict[str, Any], name: str, label: str, home: str, base: str, seed: int, record: dict[str, Any]) -> Arm:
    """One arm with one seed; raises UserError where its record lacks what the tables are made of."""
    arm = found["arms"][name]
    summary = {"lr": arm.get("lr"), "parameters": arm.get("parameters"), **record.get("summary", {})}
    missing = [part for part in ("tokens", "flops") if not isinstance(summary.get(part), int | float)]
    if not record.get("curve"):
        missing.append("curve")
    if missing:
        raise UserError(f"it has no {' and no '.join(missing)}", "make that report again")
    evaluation: dict[str, Any] = {"perplexity": record["final"]} if record["final"] else {}
    evaluation["tasks"] = _tasks(found.get("tasks", {}), name)
    evaluation["samples"] = arm.get("samples", [])
    transfer = {**(arm.get("transfer") or {}), "warnings": record.get("warnings", [])}
    transfer.setdefault("method", arm.get("method", name))
    seconds = {part: float(record.get("seconds", {}).get(part, 0.0)) for part in ("init", "run", "evaluation")}
    curve = [point(one) for one in record["curve"]]
    return Arm(label, seed, curve, summary, evaluation, transfer, seconds, home, base)


def _final(record: dict[str, Any], path: Path) -> tuple[dict[str, Any], str]:
    """The final measurement, empty where it is missing or no number; and then, of the latter, the reason."""
    final = record.get("final") or {}
    if final and not all(isinstance(final.get(n), int | float) for n in ("bits_per_byte", "nats_per_token")):
        return {}, f"{path} has no perplexity of it that is a number; its curve is shown"
    return final, ""


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
