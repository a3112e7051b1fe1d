"""The README's own result, heading to figures, and its step-0 table: made from what is kept in `results/`."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from textwrap import fill
from typing import Any

from clp_transfer.files import read_json
from clp_transfer.report import german
from clp_transfer.report.headline import headline
from clp_transfer.report.marks import renewed
from clp_transfer.report.words import NONE, count, number, percent, rate, unreached

MINIATURE, STEP0 = "mini", "step0-smollm2"
WIDTH = 124  # of the README's lines
WORDS = {1: "one", 2: "two", 3: "three"}


def rebuilt_readme(text: str, results: Path) -> str:
    """The README with the result block and the step-0 table made anew from what is kept in `results`."""
    name = next(name for name in SHOWN if (results / name / "results.json").is_file())
    return step0_rows(renewed(text, "result", lambda _: SHOWN[name](results / name)), results / STEP0)


def miniature(kept: Path) -> str:
    """The miniature as the README's result."""
    found = read_json(kept / "results.json")
    cores = re.search(r"(\d+) cores", found.get("provenance", {}).get("machine", ""))
    where = f"{_several(int(cores[1]), 'core')}, " if cores else ""
    words = (
        f"A small English model becomes German, trained on {_tokens(found) / 1e6:.1f} M tokens of Wiktionary; "
        f"{where}{_seeds(found)}. Bits per byte on held-out text; tokens saved against reaching the final loss of "
        "training from scratch; the last column is a real English model, SmolLM2-135M, read with the German tokenizer "
        "before any training."
    )
    return _section(kept, "the miniature", words, readme_block(found))


def real_model(kept: Path) -> str:
    """The German result as the README's."""
    found = read_json(kept / "results.json")
    machine = read_json(kept / "machine.json") if (kept / "machine.json").is_file() else {}
    where = f"one {machine['gpu']}, " if machine.get("gpu") else ""
    words = (
        f"A real English model, SmolLM2-135M, becomes German, trained on {count(_tokens(found))} tokens of speeches "
        f"and novels; {where}{_seeds(found)}. *final* is held-out text of the same kind; tokens saved against reaching "
        "the final loss of training from scratch. `own` keeps the source's own tokenizer: the alternative to any "
        "transfer. [docs/results.md](docs/results.md) has everything else."
    )
    return _section(kept, "SmolLM2-135M becomes German", words, german.readme_block(kept))


# The README shows the first of these that is kept.
SHOWN: dict[str, Callable[[Path], str]] = {german.NAME: real_model, MINIATURE: miniature}


def _section(kept: Path, what: str, words: str, block: str) -> str:
    """Heading, introduction, numbers, and those of the two figures that are kept; Markdown."""
    figures = [
        f'<img src="results/{kept.name}/{file}" width="49%" alt="tokens against perplexity, {whose}">'
        for file, whose in (("perplexity.png", what), ("paper.png", "the paper"))
        if (kept / file).is_file()
    ]
    lines = [f"## Result: {what}", fill(words, WIDTH, break_on_hyphens=False), "", block]
    return "\n".join([*lines, *(["", *figures] if figures else [])])


def _tokens(found: dict[str, Any]) -> float:
    """The tokens that an arm was trained on."""
    return max(arm["curve"][-1]["tokens"] for arm in found["arms"].values())


def _seeds(found: dict[str, Any]) -> str:
    """How many seeds the arms have: `one seed`, `one to three seeds`."""
    sizes = sorted({len(arm["seeds"]) for arm in found["arms"].values()})
    least = f"{WORDS.get(sizes[0], sizes[0])} to " if len(sizes) > 1 else ""
    return least + _several(sizes[-1], "seed")


def _several(size: int, what: str) -> str:
    return f"{WORDS.get(size, size)} {what}{'' if size == 1 else 's'}"


def readme_block(found: dict[str, Any]) -> str:
    """The miniature's result: one sentence, the table of the arms, and the step-0 values; Markdown."""
    head = "| arm | peak rate | final bits/byte | tokens saved | compute saved, helper counted | SmolLM2 at step 0 |"
    lines = [f"**{headline(found)}**", "", head, "|---|--:|--:|--:|--:|--:|"]
    step0 = found["step0"].get("smollm2", {})
    for name, arm in found["arms"].items():
        saved = found["tokens_saved"].get(name)
        shares = [NONE, NONE]
        if saved is not None:
            shares = [
                percent(saved["saved"]) if saved["reached"] else unreached(saved),
                percent(saved["saved_flops_counting_the_helper"]),
            ]
        cells = [f"`{name}`", rate(arm["lr"]), number(arm["final"]["bits_per_byte"], 3), *shares]
        lines.append(f"| {' | '.join([*cells, number(step0.get(name), 2)])} |")
    own = number(step0.get("own_tokenizer"), 2)
    lines += ["", f"SmolLM2-135M with its own tokenizer reads the same German at {own} bits per byte."]
    return "\n".join(lines)


def step0_rows(text: str, kept: Path) -> str:
    """The text with the values of the step-0 table's rows (`| label | values | words |`) as they are kept."""
    if not (kept / "results.json").is_file():
        return text
    for name, values in read_json(kept / "results.json")["bits_per_byte"].items():
        label = "own tokenizer" if name == "own_tokenizer" else f"`{name}`"
        shown = " / ".join(dict.fromkeys(f"{value:.3f}" for value in values))
        row = re.compile(rf"^(\| {re.escape(label)} \|) [\d. /]+ (\|[^|\n]*\|)$", re.MULTILINE)
        text = row.sub(rf"\1 {shown} \2", text)
    return text
