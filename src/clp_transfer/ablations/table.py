"""An ablation's tables in Markdown: a row for every variant, its arms side by side."""

from __future__ import annotations

from typing import Any

from clp_transfer.ablations.job import TRAIN
from clp_transfer.report.words import NONE, percent_plus_minus, plus_minus

START, FINAL, SAVED, SPREAD = "start", "final", "saved", "spread"
CAPTIONS = {
    START: "bits per byte at step 0",
    FINAL: "bits per byte at the end",
    SAVED: "tokens saved",
    SPREAD: "spread of new rows",
}
# Of several variants: a table each, of a measure and in brackets another one.
PAIRS = ((FINAL, SAVED), (START, SPREAD))


def table(found: dict[str, Any]) -> str:
    """Of one variant a row an arm with all measures; of several, a table each for the end and the start of training."""
    labels = list(dict.fromkeys(row["label"] for row in found["rows"]))
    if len(labels) == 1:
        return _arms(found)
    # Where training alone is varied, all start alike.
    shown = PAIRS[:1] if found["own"] == TRAIN else PAIRS
    return "\n\n".join(_pair(found, labels, *pair) for pair in shown)


def titled(found: dict[str, Any]) -> str:
    """The question, then the tables: for where no heading asks it."""
    return f"**{found['question']}**\n\n{table(found)}" if found["question"] else table(found)


def _arms(found: dict[str, Any]) -> str:
    lines = [f"| arm | {' | '.join(CAPTIONS.values())} |", "|---|" + "--:|" * len(CAPTIONS)]
    lines += [f"| `{row['arm']}` | {' | '.join(cell(row, measure) for measure in CAPTIONS)} |" for row in found["rows"]]
    return "\n".join(lines)


def _pair(found: dict[str, Any], labels: list[str], measure: str, aside: str) -> str:
    """Variants down, arms across."""
    rows = {(row["label"], row["arm"]): row for row in found["rows"]}
    arms = list(dict.fromkeys(row["arm"] for row in found["rows"]))
    lines = [f"| {found['axis']} | {' | '.join(f'`{arm}`' for arm in arms)} |", "|---|" + "--:|" * len(arms)]
    for label in labels:
        cells = [_both(rows[label, arm], measure, aside) for arm in arms]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return f"{CAPTIONS[measure].capitalize()} ({CAPTIONS[aside]}):\n\n" + "\n".join(lines)


def _both(row: dict[str, Any], measure: str, aside: str) -> str:
    beside = cell(row, aside)
    return cell(row, measure) + (f" ({beside})" if beside != NONE else "")


def cell(row: dict[str, Any], measure: str) -> str:
    """A mean with the half-width of its 95% interval: `2.101 ± 0.012`, `79% ± 3`."""
    value, interval = row[measure], row.get(f"{measure}_interval")
    if measure == SAVED:
        if value is None:
            return NONE if row["arm"] == "scratch" else f"reached by {row['reached']} of {len(row['runs'])}"
        return percent_plus_minus(value, interval)
    return plus_minus(value, interval, 2 if measure == SPREAD else 3)
