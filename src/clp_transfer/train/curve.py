"""The held-out curve of a run, for its model card: a table and a picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROWS = 12  # of the table; the picture has every point


def validation_records(metrics: Path) -> list[dict[str, Any]]:
    """The validation records of a `metrics.jsonl`, in the order in which they were made."""
    records = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    return [record for record in records if record["kind"] == "validation"]


def curve_table(records: list[dict[str, Any]]) -> str:
    """Markdown: tokens, bits per byte and nats per token at up to `ROWS` points, the first and the last among them."""
    last = len(records) - 1
    chosen = sorted({round(i * last / (ROWS - 1)) for i in range(ROWS)}) if last >= ROWS else range(last + 1)
    rows = [
        f"| {r['tokens']:,} | {_number(r['bits_per_byte'])} | {_number(r['nats_per_token'])} |"
        for r in (records[i] for i in chosen)
    ]
    return "\n".join(["| tokens | bits per byte | nats per token |", "|--:|--:|--:|", *rows])


def draw_curve(records: list[dict[str, Any]], path: Path) -> None:
    """Write a picture (by the path's ending) of bits per byte over tokens; a value that is no number leaves a gap."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.add_subplot()
    values = [float("nan") if r["bits_per_byte"] is None else r["bits_per_byte"] for r in records]
    axes.plot([r["tokens"] / 1e6 for r in records], values, marker="o", markersize=3)
    axes.set(xlabel="million tokens", ylabel="held-out bits per byte")
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
