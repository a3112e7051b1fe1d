"""The tables of docs/results.md, and the README's when it is there: a real English model becomes German."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from clp_transfer.ablations.table import table as ablation_table
from clp_transfer.files import read_json
from clp_transfer.report.headline import best_arm, headline, own_sentences
from clp_transfer.report.marks import UNMEASURED, renewed
from clp_transfer.report.seeds import mean
from clp_transfer.report.words import (
    NONE,
    between,
    number,
    percent,
    percent_plus_minus,
    plus_minus,
    rate,
    unreached,
)

NAME = "smollm2-135m-german"
OWN = "own_tokenizer"
NEWS, ENGLISH = "news", "english"
PAPER = 0.8  # "up to 80% fewer steps", the paper's abstract


def rebuilt(text: str, results: Path) -> str:
    """The document with every block between its marks made anew from what is kept; one that is not says so."""
    return renewed(text, "german", lambda name: block(name, results / NAME))


def block(name: str, kept: Path) -> str:
    """One block by name, or the ablation of that name."""
    if name in BLOCKS:
        file, made = BLOCKS[name]
        return made(kept) if (kept / file).is_file() else UNMEASURED
    path = kept / "ablations" / f"{name}.json"
    return ablation_table(read_json(path)) if path.is_file() else UNMEASURED


def readme_block(kept: Path) -> str:
    """The headline, whether the paper's claim holds, and the arms."""
    return f"{_headline(kept)}\n\n{_arms(kept)}"


def _headline(kept: Path) -> str:
    """The answer in words, whatever it is; what keeps its own tokenizer is no transfer, and stands beside it."""
    found = read_json(kept / "results.json")
    lines, best = [f"**{headline(found)}**"], best_arm(found)
    if best is not None:
        saved = found["tokens_saved"][best]
        share = saved["saved"] if saved["saved"] is not None else 0.0
        verdict = "holds here" if share >= PAPER else "is not reached here"
        bounds = between(saved["intervals"].get("saved"))
        lines.append(
            f"The paper's claim, up to {percent(PAPER)} fewer steps, {verdict}: {percent(share)}"
            f"{f' (95% interval {bounds})' if bounds else ', one seed'}."
        )
    return " ".join([*lines, *own_sentences(found)])


def _arms(kept: Path) -> str:
    """A row for every arm: where it starts, where it ends, on which text, and what it saves."""
    found, before = read_json(kept / "results.json"), _before(kept)
    head = [
        "arm",
        "seeds",
        "peak rate",
        "step 0",
        "final",
        "news",
        "English",
        "tokens saved",
        "compute saved, helper in",
    ]
    lines = [f"| {' | '.join(head)} |", "|---|" + "--:|" * (len(head) - 1)]
    for name, arm in found["arms"].items():
        saved = found["tokens_saved"].get(name)
        cells = [f"`{name}`", str(len(arm["seeds"])), rate(arm["lr"]), number(arm["curve"][0]["bits_per_byte"], 3)]
        cells.append(plus_minus(arm["final"].get("bits_per_byte"), arm["final_bits_per_byte_interval"], 3))
        cells += [number(_text(found, text, name), 3) for text in (NEWS, ENGLISH)]
        cells += [NONE, NONE] if saved is None else [_saved(saved), percent(saved["saved_flops_counting_the_helper"])]
        lines.append(f"| {' | '.join(cells)} |")
    if before:
        cells = ["untouched source", "", "", "", "", *(number(before.get(text), 3) for text in (NEWS, ENGLISH)), "", ""]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", "Bits per byte; ± half a 95% interval over seeds."])


def _before(kept: Path) -> dict[str, float | None]:
    """Bits per byte of the untouched source, by text."""
    path = kept / "evaluations.json"
    records = list(read_json(path).values()) if path.is_file() else []
    return {text: found.get("bits_per_byte") for text, found in ((records or [{}])[0].get("texts") or {}).items()}


def _text(found: dict[str, Any], text: str, arm: str) -> float | None:
    return found.get("texts", {}).get(text, {}).get(arm, {}).get("bits_per_byte")


def _saved(saved: dict[str, Any]) -> str:
    if not saved["reached"]:
        return unreached(saved)
    return percent_plus_minus(saved["saved"], saved["intervals"].get("saved"))


def _start(kept: Path) -> str:
    """Every method before any training, the best first; a value for each seed's helper."""
    (record,) = read_json(kept / "step0.json").values()
    bits = record["bits_per_byte"]
    lines = ["| start | bits per byte, a value for each helper |", "|---|--:|"]
    for name in sorted(bits, key=lambda name: mean(list(bits[name].values()))):
        label = "own tokenizer" if name == OWN else f"`{name}`"
        values = dict.fromkeys(number(value, 3) for _, value in sorted(bits[name].items()))
        lines.append(f"| {label} | {' / '.join(values)} |")
    return "\n".join([*lines, "", f"On the first {record['bytes']:,} bytes of the held-out sessions and novels."])


def _helpers(kept: Path) -> str:
    """What each helper is and what it cost."""
    lines = ["| helper | parameters | tokens | minutes | bits per byte |", "|---|--:|--:|--:|--:|"]
    for name, one in read_json(kept / "helpers.json").items():
        cells = [f"`{name}`", f"{one['parameters']:,}", f"{one['tokens']:,}", number(one["seconds"] / 60, 0)]
        lines.append(f"| {' | '.join([*cells, number(one['final']['bits_per_byte'], 3)])} |")
    return "\n".join(lines)


def _rates(kept: Path) -> str:
    """The loss that each peak rate gave in the short runs, the chosen one in bold."""
    found = read_json(kept / "tuning.json")
    columns = sorted({lr for row in found.values() for lr in row}, key=float)
    lines = [f"| arm | {' | '.join(columns)} |", "|---|" + "--:|" * len(columns)]
    for arm, row in found.items():
        best = min((loss for loss in row.values() if loss is not None), default=None)
        cells = [number(row.get(lr), 4) for lr in columns]
        shown = [
            f"**{cell}**" if row.get(lr) == best is not None else cell for lr, cell in zip(columns, cells, strict=True)
        ]
        lines.append(f"| `{arm}` | {' | '.join(shown)} |")
    return "\n".join([*lines, "", "Held-out nats per token: they compare within a row."])


def _tasks(kept: Path) -> str:
    """Zero-shot accuracy with its 95% interval over documents; in brackets where chance does as well."""
    found = read_json(kept / "results.json")
    names = {name: task for name, task in found["tasks"].items() if task.get("baselines")}
    heads = [f"`{name.removeprefix('clp_')}`" for name in names]
    lines = [f"| arm | {' | '.join(heads)} |", "|---|" + "--:|" * len(heads)]
    for arm in found["arms"]:
        lines.append(f"| `{arm}` | {' | '.join(_accuracy(task.get(arm, {})) for task in names.values())} |")
    for key, label in (("random", "guessing"), ("majority", "the commonest label")):
        cells = [percent(task["baselines"].get(key, {}).get("acc")) for task in names.values()]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", "In brackets: not distinguishable from chance."])


def _accuracy(row: dict[str, Any]) -> str:
    if row.get("acc") is None:
        return NONE
    half = 1.96 * (row.get("stderr") or 0.0)
    text = percent_plus_minus(row["acc"], [row["acc"] - half, row["acc"] + half] if half else None)
    return text if row.get("distinguishable") else f"({text})"


def _machine(kept: Path) -> str:
    """Where it ran, with what, and by which command."""
    one = read_json(kept / "machine.json")
    where = one.get("gpu") or f"{one.get('cores')} cores of {one.get('processor')}, no GPU"
    return f"{where}, torch {one.get('torch')}, Python {one.get('python')}: `{one.get('command')}`"


# Which file each is made of, and how.
BLOCKS: dict[str, tuple[str, Callable[[Path], str]]] = {
    "headline": ("results.json", _headline),
    "arms": ("results.json", _arms),
    "tasks": ("results.json", _tasks),
    "step0": ("step0.json", _start),
    "helpers": ("helpers.json", _helpers),
    "rates": ("tuning.json", _rates),
    "machine": ("machine.json", _machine),
}
