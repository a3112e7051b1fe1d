"""The table of published systems as Markdown: a row for each system, a column for each task."""

from __future__ import annotations

from typing import Any

from clp_transfer.report.words import NONE, count, number

CHANCE = "≈"
LEGEND = (
    f"Accuracy in percent; `clp_oscar_ppl_de`: word perplexity; other tasks: the harness's first metric. {CHANCE}: not"
    " distinguishable from chance, that is, not 1.96 standard errors above the better of random guessing and always"
    " giving the commonest answer."
)


def markdown(result: dict[str, Any]) -> str:
    """The table, its legend, and why what is missing is missing. `result`: what `published` returns so far."""
    tasks: list[str] = result["tasks"]
    settings = {name: value for name, value in result["settings"].items() if value is not None and name != "tasks"}
    head = ["system", "parameters", *tasks, "not measured"]
    lines = ["# Published systems", "", ", ".join(f"{name}={value}" for name, value in settings.items()), ""]
    lines += [_line(head), _line(["---", "--:", *["--:"] * len(tasks), "---"])]
    for baseline in ("random", "majority"):
        lines.append(_line([f"*{baseline}*", NONE, *(_shared(result, task, baseline) for task in tasks), ""]))
    lines.append(_line(["*documents*", NONE, *(_shared(result, task, "documents") for task in tasks), ""]))
    for system in result["systems"]:
        cells = [_cell(system["tasks"].get(task)) for task in tasks]
        reason = (system["error"] or "").replace("|", "\\|")
        lines.append(_line([f"`{system['name']}`", count(system.get("parameters")), *cells, reason]))
    lines += ["", LEGEND, "", *_reasons(result)]
    return "\n".join(lines).rstrip() + "\n"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _shared(result: dict[str, Any], task: str, name: str) -> str:
    """What guessing reaches on the task, or its documents: the same for all systems, so from the first that has it."""
    rows = [system["tasks"].get(task) or {} for system in result["systems"]]
    value = next((row[name] for row in rows if row.get(name) is not None), None)
    return NONE if value is None else f"{value:,}" if name == "documents" else _percent(value)


def _cell(row: dict[str, Any] | None) -> str:
    if row is None or row.get("error"):
        return NONE
    if row.get("acc") is not None:
        error = "" if row.get("stderr") is None else f" ± {_percent(row['stderr'])}"
        return f"{_percent(row['acc'])}{error}" + (f" {CHANCE}" if row.get("distinguishable") is False else "")
    if "word_perplexity" in row:
        return number(row["word_perplexity"], 1)
    metrics = (name for name, value in row.items() if "," in name and "_stderr" not in name and value is not None)
    first = next(metrics, None)
    return NONE if first is None else f"{row[first]:.3g} {first.partition(',')[0]}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _reasons(result: dict[str, Any]) -> list[str]:
    """A line for each reason why a task is missing, with the systems that it holds for."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for system in result["systems"]:
        for task, row in system["tasks"].items():
            if row.get("error"):
                reasons.setdefault((task, row["error"]), []).append(system["name"])
    return [f"- {task}, {', '.join(names)}: {reason}" for (task, reason), names in reasons.items()]
