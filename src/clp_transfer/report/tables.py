"""The tables for a paper: Markdown and LaTeX (booktabs) files of what the page shows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from clp_transfer.files import write_text
from clp_transfer.report.beside import beside
from clp_transfer.report.escape import latex, markdown, slug
from clp_transfer.report.page import COLUMNS, TEMPLATES, UNITS, columns, comparable, text_units
from clp_transfer.report.words import NONE, between, count, number, percent, power, rate, sized, unreached

NO_INTERVAL = "One seed, no interval."


@dataclass(frozen=True)
class Table:
    """A table of text cells; the first column names the row. `name` is its file's."""

    name: str
    caption: str
    head: list[str]
    rows: list[list[str]]


def tables(results: dict[str, Any]) -> list[Table]:
    """All tables that have something to show: final values, savings, texts, tasks, ablations, the paper."""
    found = [_final(results), _savings(results)]
    found += [_text(unit, results) for unit in text_units(results["texts"])]
    found += [_task(name, task, results) for name, task in results["tasks"].items()]
    found += [_ablation(table) for table in results["ablations"]]
    head = ["", "the paper", "here"]
    found.append(Table("paper", "The paper beside this report.", head, [list(row) for row in beside(results)]))
    return [table for table in found if table.rows]


def write_tables(found: list[Table], folder: Path) -> None:
    """Write `<name>.md` and `<name>.tex` for each table."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"latex": latex, "markdown": markdown}
    for table in found:
        for ending in ("md", "tex"):
            text = environment.get_template(f"table.{ending}.j2").render(table=table)
            write_text(folder / f"{table.name}.{ending}", text.rstrip() + "\n")


def _final(results: dict[str, Any]) -> Table:
    rows = []
    for name, arm in results["arms"].items():
        bounds = arm["final"].get("intervals") or {}
        cells = [_with(sized(arm["final"].get(u), d), bounds.get(u), d) for u, (_, d) in UNITS.items()]
        rows.append([name, count(arm["parameters"]), count(arm["tokens"]), rate(arm["lr"]), *cells])
    over = {arm["final"].get("interval_over") for arm in results["arms"].values()} - {None}
    words = f"In brackets: 95% intervals over {' or '.join(sorted(over))}." if over else NO_INTERVAL
    head = ["arm", "parameters", "tokens", "peak rate", *(label for label, _ in UNITS.values())]
    return Table("final", f"Finished models on all held-out text. {words}", head, rows)


def _savings(results: dict[str, Any]) -> Table:
    rows, single = [], True
    for name, saved in results["tokens_saved"].items():
        shares = []
        for part in ("saved", "saved_flops", "saved_flops_counting_the_helper"):
            bounds = saved["intervals"].get(part)
            single = single and not bounds
            shares.append(percent(saved.get(part)) + (f" ({between(bounds)})" if bounds else ""))
        reach = count(saved["arm_tokens"]) if saved["reached"] else unreached(saved)
        rows.append([name, *shares, reach, power(saved.get("arm_flops")), str(len(saved["seeds"]))])
    head = ["arm", "tokens saved", "FLOPs saved", "FLOPs saved, helper counted", "tokens to B*", "FLOPs to B*", "seeds"]
    words = "B*: the final bits per byte of training from scratch. "
    return Table("savings", words + (NO_INTERVAL if single else "In brackets: 95% intervals over seeds."), head, rows)


def _text(unit: str, results: dict[str, Any]) -> Table:
    label, digits = UNITS[unit]
    rows = []
    for name in results["arms"]:
        records = [by_arm.get(name, {}) for by_arm in results["texts"].values()]
        cells = [_with(sized(r.get(unit), digits), (r.get("intervals") or {}).get(unit), digits) for r in records]
        rows.append([name, *cells])
    return Table(f"texts-{slug(label)}", f"{label.capitalize()} by text.", ["arm", *results["texts"]], rows)


def _task(name: str, task: dict[str, Any], results: dict[str, Any]) -> Table:
    shown = columns(task, list(results["arms"]))
    rows = []
    for row in comparable({name: task}, list(results["arms"]))[name]:
        cells = [sized(row.get(column), 3) for column in shown]
        cells = [cell + ("*" if row.get(f"chance_{c}") else "") for c, cell in zip(shown, cells, strict=True)]
        if "acc" in shown and row["arm"] and row.get("stderr") is not None:
            cells[shown.index("acc")] += f" ± {number(row['stderr'], 3)}"
        remark = "not distinguishable from chance" if row["chance"] else row.get("error") or ""
        rows.append([row["label"], *cells, remark])
    words = f"{name}, {number(task['documents'], 0)} documents." if task.get("documents") else f"{name}."
    if any(cell.endswith("*") for _, *cells in rows for cell in cells):
        words += " *: not distinguishable from chance."
    words += f" Precision, recall and F1: {task['average']} average." if task.get("average") else ""
    return Table(
        f"task-{slug(name)}", words, ["arm", *(COLUMNS.get(column, column) for column in shown), "remark"], rows
    )


def _ablation(table: dict[str, Any]) -> Table:
    rows = []
    for row in table["rows"]:
        changes = ", ".join(f"{key}: {_shown(a)} → {_shown(b)}" for key, (a, b) in row["changed"].items())
        saved = (NONE if not row["compared"] else "not reached") if row["saved"] is None else percent(row["saved"])
        saved += f" ({between(row['saved_interval'])})" if row["saved_interval"] else ""
        bits = _with(number(row["bits_per_byte"], 3), row["interval"], 3)
        rows.append([changes or row["variant"] or "the plain run", bits, saved, str(len(row["seeds"]))])
    name = "-".join(slug(part) for part in ("ablation", table["experiment"], table["method"]) if part)
    single = all(row["interval"] is None for row in table["rows"])
    words = f"Ablations of {table['method']}. " + (NO_INTERVAL if single else "In brackets: 95% intervals over seeds.")
    return Table(name, words, ["changed", "final bits per byte", "tokens saved against the plain run", "seeds"], rows)


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else "none" if value is None else str(value)


def _with(text: str, bounds: list[float] | None, digits: int) -> str:
    return f"{text} ({sized(bounds[0], digits)} to {sized(bounds[1], digits)})" if bounds else text
