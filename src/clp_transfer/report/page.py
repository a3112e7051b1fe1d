"""The page: one self-contained HTML file, from the results and the inlined figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from clp_transfer.report import headline, words
from clp_transfer.report.curves import describe
from clp_transfer.report.figures import step0_name
from clp_transfer.report.palette import colours, everything

TEMPLATES = Path(__file__).with_name("templates")
METHODS = {
    "scratch": "all weights random",
    "random": "source body; shared tokens copied, the rest drawn at random",
    "mean": "source body; the rest set to the mean of the shared tokens",
    "clp": "the paper's formula: the rest as cosine-weighted means of all shared tokens",
    "clp-topk": "weighted means of the nearest shared tokens only, through a softmax",
    "ridge": "a linear map from helper to source, fitted on the shared tokens",
    "fvt": "the mean of the source's pieces of the token's text",
}


def page(results: dict[str, Any], figures: dict[str, str]) -> str:
    """The HTML text; the same results and figures always give the same bytes."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": words.percent,
        "count": words.count,
        "number": words.number,
        "power": words.power,
        "rate": words.rate,
        "typeset": _typeset,
        "between": words.between,
        "pretty": _pretty,
    }
    return environment.get_template("page.html.j2").render(
        r=results,
        figures={name: Markup(svg) for name, svg in figures.items()},
        headline=headline,
        headline_text=headline.headline(results),
        methods=METHODS,
        colours=colours(results["arms"]),
        palette=everything(),
        describe=describe(results),
        step0_name=step0_name,
        samples=samples(results),
        comparable=comparable(results["tasks"], list(results["arms"])),
        style=Markup((TEMPLATES / "style.css").read_text(encoding="utf-8")),
    )


def samples(results: dict[str, Any]) -> list[dict[str, Any]]:
    """By prompt, in order: {prompt, texts: [(arm, continuation without the prompt)]}."""
    by_prompt: dict[str, list[tuple[str, str]]] = {}
    for name, arm in results["arms"].items():
        for sample in arm["samples"]:
            prompt, text = sample["prompt"], sample["text"]
            by_prompt.setdefault(prompt, []).append((name, text.removeprefix(prompt)))
    return [{"prompt": prompt, "texts": texts} for prompt, texts in by_prompt.items()]


def comparable(tasks: dict[str, Any], arms: list[str]) -> dict[str, Any]:
    """Each task as rows {label, arm, acc, stderr, chance} of arms by falling accuracy, then the baselines."""
    tables = {}
    for name, task in tasks.items():
        ranked = sorted((arm for arm in arms if _measured(task, arm)), key=lambda arm: -task[arm]["acc"])
        rows = [{"label": arm, "arm": arm, "chance": not task[arm]["distinguishable"], **task[arm]} for arm in ranked]
        titles = {"random": "guessing at random", "majority": "always the commonest label"}
        rows += [{"label": titles[key], "arm": None, "chance": False, **b} for key, b in task["baselines"].items()]
        tables[name] = rows
    return tables


def _measured(task: dict[str, Any], arm: str) -> bool:
    # A baseline may stand under an arm's name (`random`) where that arm was not measured.
    return "distinguishable" in task.get(arm, {})


def _typeset(text: str) -> str:
    return text.replace("'", "’")


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)
