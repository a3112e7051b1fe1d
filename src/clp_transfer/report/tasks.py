"""The zero-shot tasks: each arm's accuracy beside guessing at random and always saying the commonest label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from clp_transfer.report.collect import Arm
from clp_transfer.report.seeds import interval, mean


def tasks(arms: Sequence[Arm]) -> dict[str, dict[str, Any]]:
    """By task and arm {acc, stderr, distinguishable}, and {acc, stderr} of the trivial baselines.

    `baselines` holds both baselines; they also stand beside the arms as `majority` and, where no arm has
    that name, `random`. Over seeds the accuracy is the mean; the standard error is the mean too, since the
    seeds answer the same documents and so do not average its sampling error away.
    """
    names = dict.fromkeys(task for arm in arms for task in arm.evaluation.get("tasks", {}))
    return {task: _task(task, arms) for task in names}


def _task(task: str, arms: Sequence[Arm]) -> dict[str, Any]:
    found: dict[str, list[dict[str, Any]]] = {}
    for arm in arms:
        if task in arm.evaluation.get("tasks", {}):
            found.setdefault(arm.name, []).append(arm.evaluation["tasks"][task])
    first = next(iter(found.values()))[0]
    baselines: dict[str, Any] = {
        name: {"acc": first[name], "stderr": 0.0} for name in ("random", "majority") if name in first
    }
    return {
        **baselines,
        **{name: _arm(records) for name, records in found.items()},
        "baselines": baselines,
        "documents": first.get("documents"),
        "labels": first.get("labels", []),
    }


def _arm(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    accuracies = [record["acc"] for record in records]
    return {
        "acc": mean(accuracies),
        "stderr": mean([record["stderr"] for record in records]),
        "interval": interval(accuracies),
        # With several seeds the claim must hold for each of them.
        "distinguishable": all(record.get("distinguishable", False) for record in records),
    }
