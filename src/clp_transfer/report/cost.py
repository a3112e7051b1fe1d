"""What the experiment cost: tokens, FLOPs and minutes, stage by stage."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from clp_transfer.report.records import Arm, Collected

Row = dict[str, Any]


def cost(collected: Collected) -> dict[str, Any]:
    """Rows {stage, runs, tokens, flops, minutes} in the order of the stages, and their total.

    Tokens and FLOPs are those of training; a stage that trains nothing has null.
    """
    arms = collected.arms
    rows = [_row("prepare the data", 1, _manifest_seconds(collected, ["data"]))]
    for name in dict.fromkeys(map(_role, collected.ingredients)):
        summaries = [one for key, one in collected.ingredients.items() if _role(key) == name and one]
        if summaries:
            rows.append(_trained(f"train the {name}", summaries))
    plain = [arm for arm in arms if not arm.variant]  # a sweep trains from what is there
    rows.append(_row("initialise the arms", len(plain), _part(plain, "init")))
    rows.append(_trained("train the arms", [arm.summary for arm in arms]))
    rows.append(_row("evaluate the arms", len(arms), _part(arms, "evaluation")))
    if collected.step0:
        names = [f"step 0: {name}" for name in collected.step0]
        rows.append(_row("measure at step 0", len(names), _manifest_seconds(collected, names)))
    total = {key: sum(row[key] or 0 for row in rows) for key in ("tokens", "flops", "minutes")}
    return {"rows": rows, "total": total}


def _role(ingredient: str) -> str:
    """What an ingredient is, whichever seed's: `helper` of `helper,seed2`."""
    return re.sub(r",seed\d+$", "", ingredient)


def _row(stage: str, runs: int, seconds: float, tokens: float | None = None, flops: float | None = None) -> Row:
    return {"stage": stage, "runs": runs, "tokens": tokens, "flops": flops, "minutes": seconds / 60}


def _trained(stage: str, summaries: Sequence[dict[str, Any]]) -> Row:
    totals = {key: sum(s.get(key) or 0 for s in summaries) for key in ("seconds", "tokens", "flops")}
    return _row(stage, len(summaries), totals["seconds"], totals["tokens"], totals["flops"])


def _part(arms: Sequence[Arm], part: str) -> float:
    return sum(arm.seconds[part] for arm in arms)


def _manifest_seconds(collected: Collected, names: Sequence[str]) -> float:
    return sum(float(collected.manifests.get(name, {}).get("seconds", 0.0)) for name in names)
