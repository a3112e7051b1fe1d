"""The page: one self-contained HTML file, from the results and the inlined figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from clp_transfer.report import headline, words
from clp_transfer.report.beside import beside
from clp_transfer.report.curves import describe
from clp_transfer.report.figures import step0_name
from clp_transfer.report.palette import colours, everything

TEMPLATES = Path(__file__).with_name("templates")
CURVES = {
    "perplexity": "token perplexity",
    "word_perplexity": "per word",
    "byte_perplexity": "per byte",
    "nats": "nats per token",
}
MARKS = "●■▲◆▼✚"  # as in the figures (curves.MARKS)
UNITS = {
    "nats_per_token": ("nats per token", 3),
    "token_perplexity": ("token perplexity", 2),
    "word_perplexity": ("word perplexity", 2),
    "byte_perplexity": ("byte perplexity", 3),
    "bits_per_byte": ("bits per byte", 3),
}
COLUMNS = {
    "acc": "accuracy",
    "acc_length_normalised": "length-normalised",
    "acc_pmi": "PMI",
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "word_perplexity": "word perplexity",
    "byte_perplexity": "byte perplexity",
    "bits_per_byte": "bits per byte",
}
METHODS = {
    "scratch": "all weights random",
    "random": "source body; shared tokens copied, the rest drawn at random",
    "mean": "source body; the rest set to the mean of the shared tokens",
    "clp": "the paper's formula: the rest as cosine-weighted means of all shared tokens",
    "clp-topk": "weighted means of the nearest shared tokens only, through a softmax",
    "ridge": "a linear map from helper to source, fitted on the shared tokens",
    "fvt": "the mean of the source's pieces of the token's text",
    "gaussian": "source body; the rest drawn around the mean of the source's rows",
    "procrustes": "a rotation from helper to source, fitted on the shared tokens",
    "omp": "a sparse combination of shared tokens, found in helper space",
    "blend": "half ridge, half the mean of the source's pieces",
    "calibrate": "a ridge row, then the new rows alone trained for a minute or two",
    "focus": "weights from fastText vectors trained on the target text",
    "wechsel": "weights from aligned word vectors",
    "own": "the source as it is, with its own tokenizer",
    "auto": "whichever method does best before any training",
}


def page(results: dict[str, Any], figures: dict[str, str]) -> str:
    """The HTML text; the same results and figures always give the same bytes."""
    arms, tasks = list(results["arms"]), results["tasks"]
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
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
            beside=beside(results),
            units=UNITS,
            text_units=text_units(results["texts"]),
            curve_units={name: words for name, words in CURVES.items() if name in figures},
            marks=MARKS,
            references={one.get("reference", "scratch"): one for one in results["tokens_saved"].values()},
            task_columns={name: columns(task, arms) for name, task in tasks.items()},
            column_names=COLUMNS,
            comparable=comparable(tasks, arms),
            style=Markup((TEMPLATES / "style.css").read_text(encoding="utf-8")),
        )
    )


def _environment() -> Environment:
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
        "sized": words.sized,
        "power": words.power,
        "rate": words.rate,
        "typeset": _typeset,
        "between": words.between,
        "pretty": _pretty,
        "option": _option,
    }
    return environment


def samples(results: dict[str, Any]) -> list[dict[str, Any]]:
    """By prompt, in order: {prompt, texts: [(arm, continuation without the prompt)]}."""
    by_prompt: dict[str, list[tuple[str, str]]] = {}
    for name, arm in results["arms"].items():
        for sample in arm["samples"]:
            prompt, text = sample["prompt"], sample["text"]
            by_prompt.setdefault(prompt, []).append((name, text.removeprefix(prompt)))
    return [{"prompt": prompt, "texts": texts} for prompt, texts in by_prompt.items()]


def text_units(texts: dict[str, dict[str, Any]]) -> dict[str, str]:
    """The units in which any text was measured, bits per byte first."""
    records = [record for by_arm in texts.values() for record in by_arm.values()]
    units = {unit: words for unit, (words, _) in reversed(UNITS.items())}
    return {unit: words for unit, words in units.items() if any(record.get(unit) is not None for record in records)}


def columns(task: dict[str, Any], arms: list[str]) -> list[str]:
    """Which columns of a task's table any arm has a value for: ours first, then the harness's own metrics."""
    found = [name for arm in arms for name, value in task.get(arm, {}).items() if _is_metric(name, value)]
    return [name for name in COLUMNS if name in found] + [n for n in dict.fromkeys(found) if n not in COLUMNS]


def _is_metric(name: str, value: Any) -> bool:
    return name != "stderr" and isinstance(value, int | float) and not isinstance(value, bool)


def comparable(tasks: dict[str, Any], arms: list[str]) -> dict[str, Any]:
    """Each task as rows {label, arm, chance, …} of arms, best first, then the baselines, then what failed."""
    tables = {}
    for name, task in tasks.items():
        measured = [arm for arm in arms if _measured(task, arm)]
        rows = [{"label": arm, "arm": arm, "chance": _chance(task[arm]), **task[arm]} for arm in measured]
        rows.sort(key=lambda row: (-row.get("acc", 0.0), row.get("bits_per_byte") or 0.0))
        titles = {"random": "guessing at random", "majority": "always the commonest label"}
        rows += [{"label": titles[key], "arm": None, "chance": False, **b} for key, b in task["baselines"].items()]
        failed = [arm for arm in arms if "error" in task.get(arm, {})]
        rows += [{"label": arm, "arm": arm, "chance": False, **task[arm]} for arm in failed]
        tables[name] = rows
    return tables


def _measured(task: dict[str, Any], arm: str) -> bool:
    # A baseline may stand under an arm's name (`random`) where that arm was not measured.
    found = task.get(arm, {})
    return "distinguishable" in found or ("acc" not in found and any(_is_metric(*item) for item in found.items()))


def _chance(row: dict[str, Any]) -> bool:
    return row.get("distinguishable") is False


def _option(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else "none" if value is None else str(value)


def _typeset(text: str) -> str:
    return text.replace("'", "’")


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)
