"""An ablation's table in Markdown: a row for every variant, its arms side by side."""

from __future__ import annotations

from typing import Any

from clp_transfer.ablations.job import TRAIN
from clp_transfer.report.words import NONE, number, percent

# What a cell shows: the record's key, and how it is written.
START, FINAL, SAVED, SPREAD = "start", "final", "saved", "spread"
CAPTIONS = {
    START: "bits per byte at step 0",
    FINAL: "bits per byte at the end",
    SAVED: "tokens saved against scratch",
    SPREAD: "spread of new rows",
}
WITHOUT_SCRATCH = (SAVED, SPREAD)


def table(found: dict[str, Any]) -> str:
    """A table for each measure if there are several variants; else one, with the arms as its rows."""
    labels = list(dict.fromkeys(row["label"] for row in found["rows"]))
    if len(labels) == 1:
        return _arms(found)
    # Of a variant of training alone the start says nothing.
    shown = [measure for measure in CAPTIONS if found["own"] != TRAIN or measure in (FINAL, SAVED)]
    return "\n\n".join(_measure(found, labels, measure) for measure in shown)


def _arms(found: dict[str, Any]) -> str:
    lines = [f"| arm | {' | '.join(CAPTIONS.values())} |", "|---|" + "--:|" * len(CAPTIONS)]
    lines += [f"| `{row['arm']}` | {' | '.join(cell(row, measure) for measure in CAPTIONS)} |" for row in found["rows"]]
    return "\n".join(lines)


def _measure(found: dict[str, Any], labels: list[str], measure: str) -> str:
    """One measure, variants down, arms across."""
    rows = {(row["label"], row["arm"]): row for row in found["rows"]}
    arms = [
        arm
        for arm in dict.fromkeys(row["arm"] for row in found["rows"])
        if measure not in WITHOUT_SCRATCH or arm != "scratch"
    ]
    lines = [f"| {found['axis']}: {CAPTIONS[measure]} | {' | '.join(f'`{arm}`' for arm in arms)} |"]
    lines.append("|---|" + "--:|" * len(arms))
    lines += [f"| {label} | {' | '.join(cell(rows[label, arm], measure) for arm in arms)} |" for label in labels]
    return "\n".join(lines)


def cell(row: dict[str, Any], measure: str) -> str:
    """A mean with the half-width of its 95% interval: `2.101 ± 0.012`, `79% ± 3`."""
    value, interval = row[measure], row.get(f"{measure}_interval")
    if measure == SAVED:
        if value is None:
            return NONE if row["arm"] == "scratch" else f"not reached ({row['reached']} of {len(row['runs'])})"
        return percent(value) + (f" ± {(interval[1] - interval[0]) * 50:.0f}" if interval else "")
    return number(value, 3) + (f" ± {(interval[1] - interval[0]) / 2:.3f}" if interval else "")
