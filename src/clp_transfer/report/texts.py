"""Perplexity by text: what each arm makes of every held-out text that was measured, in all units."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from clp_transfer.report.records import METRICS, Arm, whole
from clp_transfer.report.seeds import interval, mean_record


def merged(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One arm's record of one text: the mean over its seeds, with `intervals` by unit and `interval_over`.

    Over seeds where there are several; with one seed the evaluation's own interval, over the text's documents.
    """
    records = [whole(record) for record in records]
    record = mean_record(records)
    if len(records) > 1:
        values = {unit: [r.get(unit) for r in records] for unit in METRICS}
        known = {u: [v for v in vs if isinstance(v, int | float)] for u, vs in values.items()}
        record["intervals"] = {u: interval(vs) for u, vs in known.items() if len(vs) == len(records)}
        record["interval_over"] = "seeds"
    elif record.get("intervals"):
        record["interval_over"] = "documents"
    return record


def texts(arms: Sequence[Arm]) -> dict[str, dict[str, dict[str, Any]]]:
    """By text and arm the merged record; empty where nothing but the one validation text was measured."""
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for arm in arms:
        for text, record in (arm.evaluation.get("texts") or {}).items():
            if isinstance(record, dict) and record.get("bits_per_byte") is not None:
                found.setdefault(text, {}).setdefault(arm.name, []).append(record)
    return {text: {name: merged(records) for name, records in rows.items()} for text, rows in found.items()}
