"""The table that ends `make reproduce`: one line per arm, then step 0."""

from __future__ import annotations

from typing import Any

from clp_transfer.report.headline import headline
from clp_transfer.report.savings import references
from clp_transfer.report.words import NONE, count, number, percent, rate, unreached

HEAD = ["arm", "lr", "nats/token", "bits/byte", "tokens to B*", "saved", "with helper"]


def summary_table(results: dict[str, Any]) -> str:
    """Plain text: the headline, the table, the step-0 line of each source, and what the words mean."""
    tasks = results["tasks"]
    rows = [[*HEAD, *(f"{task} acc" for task in tasks)]]
    rows += [_arm_row(name, results) for name in results["arms"]]
    for baseline in ("random", "majority"):
        if any(baseline in task["baselines"] for task in tasks.values()):
            accuracies = [task["baselines"].get(baseline, {}).get("acc") for task in tasks.values()]
            label = {"random": "(guessing)", "majority": "(commonest label)"}[baseline]
            rows.append([label, *[""] * (len(HEAD) - 1), *(number(a, 3) for a in accuracies)])
    lines = [headline(results), "", *_aligned(rows), ""]
    lines += [_step0_line(source, bits) for source, bits in results["step0"].items()]
    lines.append("B*: scratch's final bits per byte. with helper: FLOPs saved when training the helper is counted.")
    if any(cell.endswith("*") for row in rows[1:] for cell in row[len(HEAD) :]):
        lines.append("*: not distinguishable from chance.")
    return "\n".join(lines)


def _arm_row(name: str, results: dict[str, Any]) -> list[str]:
    arm = results["arms"][name]
    final = arm["final"] or arm["curve"][-1]
    saved = results["tokens_saved"].get(name)
    if saved is not None:
        to_target = count(saved["arm_tokens"]) if saved["reached"] else unreached(saved)
        shares = [percent(saved["saved"]), percent(saved["saved_flops_counting_the_helper"])]
    else:
        to_target, shares = (count(arm["tokens"]) if name in references(results) else NONE), [NONE, NONE]
    accuracies = [_accuracy(task.get(name)) for task in results["tasks"].values()]
    values = [number(final["nats_per_token"], 3), number(final["bits_per_byte"], 3)]
    return [name, rate(arm["lr"]), *values, to_target, *shares, *accuracies]


def _accuracy(record: dict[str, Any] | None) -> str:
    if record is None or "distinguishable" not in record:
        return NONE
    return number(record["acc"], 3) + ("*" if record["distinguishable"] is False else "")


def _aligned(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]
    return [lines[0], "-" * len(lines[0]), *lines[1:]]


def _step0_line(source: str, bits: dict[str, float | None]) -> str:
    own = bits.get("own_tokenizer")
    methods = sorted((b, n) for n, b in bits.items() if n != "own_tokenizer" and b is not None)
    parts = [] if own is None else [f"own tokenizer {number(own)}"]
    return f"step 0 from {source}, bits/byte: " + ", ".join(parts + [f"{n} {number(b)}" for b, n in methods])
