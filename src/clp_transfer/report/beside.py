"""The paper's reading beside ours: the same quantities, and the setting in which each was measured."""

from __future__ import annotations

from typing import Any

from clp_transfer.report.headline import PAPER_METHOD, best_arm
from clp_transfer.report.savings import references
from clp_transfer.report.words import NONE, between, count, listed, number, percent, unreached

Row = tuple[str, str, str]


def beside(results: dict[str, Any]) -> list[Row]:
    """Rows (what, the paper, this report): the setting first, then what can be compared."""
    paper, arms = results["paper"], results["arms"]
    setting, saved = paper["setting"], paper["saved"]
    reach = f"{number(saved['reference_word_perplexity'], 1)} after {count(saved['scratch_tokens'])} tokens"
    scratch = [_end(name, arms[name]) for name in references(results)]
    clp = [name for name in results["tokens_saved"] if arms[name].get("base", name) == PAPER_METHOD]
    best = best_arm(results)
    return [
        ("parameters", setting["parameters"], _several([count(arm["parameters"]) for arm in arms.values()])),
        ("training tokens", setting["tokens"], _several([count(arm["tokens"]) for arm in arms.values()])),
        ("text", setting["text"], _text(results)),
        ("measured", setting["measured"], _measured(results)),
        ("seeds", str(setting["seeds"]), _several([str(len(arm["seeds"])) for arm in arms.values()])),
        ("end of training from scratch", f"word perplexity {reach}", "; ".join(scratch) or NONE),
        (
            "tokens saved by the paper's formula",
            f"{percent(saved['saved'])} on the figure; the abstract says up to 80%",
            "; ".join(_share(results, name) for name in clp) or NONE,
        ),
        ("tokens saved by the best transfer", NONE, _share(results, best) if best else NONE),
    ]


def _end(name: str, arm: dict[str, Any]) -> str:
    last = arm["curve"][-1]
    value = f"{number(last['bits_per_byte'], 3)} bits per byte"
    words = f" (word perplexity {number(last['word_perplexity'], 0)})" if last.get("word_perplexity") else ""
    return f"{name}: {value}{words} after {count(last['tokens'])} tokens"


def _share(results: dict[str, Any], name: str) -> str:
    record = results["tokens_saved"][name]
    if record["saved"] is None:
        return f"{name} does not get there" if unreached(record) == "not reached" else unreached(record)
    bounds = between(record["intervals"].get("saved"))
    return f"{name} {percent(record['saved'])} ({f'95% interval {bounds}' if bounds else 'one seed, no interval'})"


def _text(results: dict[str, Any]) -> str:
    sources = [
        str(source.get("name", "")).partition(":")[0]
        for corpus in results["statistics"].get("corpora", {}).values()
        for source in corpus.get("sources") or []
    ]
    names = list(dict.fromkeys(name for name in sources if name))
    return listed(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "") if names else NONE


def _measured(results: dict[str, Any]) -> str:
    sizes = dict.fromkeys(count(arm["final"]["bytes"]) for arm in results["arms"].values() if arm["final"].get("bytes"))
    return "bits per byte of held-out text" + (f", {listed(list(sizes))}B" if sizes else "")


def _several(values: list[str]) -> str:
    """One value, or the different ones."""
    return listed(list(dict.fromkeys(values)))
