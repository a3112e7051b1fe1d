"""The zero-shot tasks: each arm's results beside guessing at random and always saying the commonest label."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from clp_transfer.report.records import Arm
from clp_transfer.report.seeds import interval, mean

# What a row may have besides its accuracy: of a task with labels, and of one that measures perplexity.
MORE = ("acc_length_normalised", "acc_pmi", "precision", "recall", "f1")
UNITS = ("word_perplexity", "byte_perplexity", "bits_per_byte")
# What is said once for a task: it is the same for all arms.
SHARED = ("documents", "labels", "fewshot", "limit", "average")
# Accuracies by other scores, which the evaluation holds against the baselines too.
OWN_CLAIMS = {"acc_pmi": "distinguishable_pmi", "acc_length_normalised": "distinguishable_length_normalised"}
STANDARD_ERRORS = 1.96  # of a two-sided 95% interval


def tasks(arms: Sequence[Arm]) -> dict[str, dict[str, Any]]:
    """By task and arm {acc, stderr, distinguishable, …}, and {acc, stderr} of the trivial baselines.

    `baselines` holds both baselines; they also stand beside the arms as `majority` and, where no arm has
    that name, `random`. Over seeds each value is the mean; the standard error is the mean too, since the
    seeds answer the same documents and so do not average its sampling error away. An arm that could not be measured
    has {error} alone. A perplexity task's arms have its units in place of accuracy.
    """
    names = dict.fromkeys(task for arm in arms for task in arm.evaluation.get("tasks") or {})
    return {task: _task(task, arms) for task in names}


def _task(task: str, arms: Sequence[Arm]) -> dict[str, Any]:
    found: dict[str, list[dict[str, Any]]] = {}
    for arm in arms:
        if task in (arm.evaluation.get("tasks") or {}):
            found.setdefault(arm.name, []).append(arm.evaluation["tasks"][task])
    sound = [row for rows in found.values() for row in rows if not row.get("error")]
    first = sound[0] if sound else {}
    baselines: dict[str, Any] = {
        name: {"acc": first[name], "stderr": 0.0} for name in ("random", "majority") if first.get(name) is not None
    }
    shared: dict[str, Any] = {"documents": None, "labels": []}
    shared |= {name: first[name] for name in SHARED if first.get(name) is not None}
    return {**baselines, **{name: _arm(rows) for name, rows in found.items()}, "baselines": baselines, **shared}


def _arm(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    errors = [str(row["error"]) for row in rows if row.get("error")]
    if errors:
        return {"error": errors[0]}
    others = _others(rows)
    if rows[0].get("acc") is None:
        return {name: _mean(rows, name) for name in UNITS if rows[0].get(name) is not None} | others
    first = rows[0]
    accuracies = [row["acc"] for row in rows]
    errors_of = [row["stderr"] for row in rows if row.get("stderr") is not None]
    return {
        "acc": mean(accuracies),
        "stderr": mean(errors_of) if len(errors_of) == len(rows) else None,
        "interval": interval(accuracies),
        "distinguishable": _all(_distinguishable(row) for row in rows),
        **{
            f"chance_{name}": not _all(row.get(key) for row in rows) for name, key in OWN_CLAIMS.items() if key in first
        },
        **{name: _mean(rows, name) for name in MORE if first.get(name) is not None},
        **others,
    }


def _all(claims: Iterable[bool | None]) -> bool | None:
    """With several seeds a claim must hold for each of them; None where it cannot be made."""
    found = list(claims)
    return None if None in found else all(found)


def _others(rows: Sequence[dict[str, Any]]) -> dict[str, float | None]:
    """The harness's own metrics (`acc_norm,none`), by their plain names."""
    names = [key for key in rows[0] if "," in key and "stderr" not in key and not key.startswith("acc,")]
    values = {name.partition(",")[0]: _mean(rows, name) for name in names}
    return {name: value for name, value in values.items() if value is not None}


def _mean(rows: Sequence[dict[str, Any]], name: str) -> float | None:
    values = [row.get(name) for row in rows]
    known = [float(value) for value in values if isinstance(value, int | float)]
    return mean(known) if len(known) == len(values) else None


def _distinguishable(row: dict[str, Any]) -> bool | None:
    """Whether the result's 95% interval lies above its better baseline; as the evaluation says where it does.

    None where no baseline is known.
    """
    if row.get("distinguishable") is not None:
        return bool(row["distinguishable"])
    baselines = [row[name] for name in ("random", "majority") if row.get(name) is not None]
    if not baselines:
        return None
    if row.get("stderr") is None:
        return False
    return bool(row["acc"] - STANDARD_ERRORS * row["stderr"] > max(baselines))
