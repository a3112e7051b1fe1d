"""The answers in words, computed: each sentence holds for whatever the numbers are."""

from __future__ import annotations

from typing import Any

from clp_transfer.clp.job import OWN_TOKENIZER
from clp_transfer.report.savings import references
from clp_transfer.report.words import between, count, listed, number, percent

PAPER_METHOD = "clp"
CHANCE = 0.005


def headline(results: dict[str, Any]) -> str:
    """One sentence: which transfer gets to scratch's final loss with the fewest tokens, or that none does."""
    if not references(results):
        return "No arm was trained from scratch, so tokens saved cannot be computed."
    saved = results["tokens_saved"]
    if not saved:
        return "Only training from scratch was run: there is nothing to compare it with."
    if all(record["reference_bits_per_byte"] is None for record in saved.values()):
        return "Training from scratch diverged, so there is no final loss to reach."
    own = own_tokenizer(results)
    if len(own) == len(saved):
        return "No transfer was run: there is none to compare with training from scratch."
    best, arm = best_arm(results), "transfer" if own else "arm"
    if best is None:
        return f"No {arm} beats training from scratch: none reaches its final loss."
    record = saved[best]
    if record["saved"] <= 0:
        return f"No {arm} beats training from scratch: the best, {best}, needs just as many tokens."
    if record["arm_tokens"] == 0:
        return f"{best} is better than the final loss of training from scratch before it sees a single token."
    return f"{best} reaches the final loss of training from scratch with {_rest(record)} of the tokens."


def best_arm(results: dict[str, Any]) -> str | None:
    """The transfer with the largest saving; of those with the same, the one with the lowest final bits per byte.

    The source that kept its own tokenizer is none, however much it saves: no claim about transfer is about it.
    """
    own = own_tokenizer(results)
    saved = {n: r for n, r in results["tokens_saved"].items() if r["saved"] is not None and n not in own}
    ends = {name: results["arms"][name]["curve"][-1]["bits_per_byte"] for name in saved}
    order = sorted(saved, key=lambda name: (-saved[name]["saved"], ends[name] is None, ends[name] or 0.0))
    return order[0] if order else None


def own_tokenizer(results: dict[str, Any]) -> list[str]:
    """The arms with a saving in which the source keeps its own tokenizer; each experiment may have one."""
    bases = {name: str(results["arms"][name].get("base", name)) for name in results["tokens_saved"]}
    return [name for name, base in bases.items() if base.partition(",")[0] == OWN_TOKENIZER]


def own_sentences(results: dict[str, Any]) -> list[str]:
    """What the alternative to any transfer gives, the source kept with its own tokenizer, beside the best transfer."""
    best = best_arm(results)
    said = []
    for name in own_tokenizer(results):
        record = results["tokens_saved"][name]
        found = _outcome(record, "the final loss of training from scratch")
        text = f"Keeping the source's own tokenizer ({name}) {found}"
        if record["saved"] is not None and best is not None:
            text += f", {_against(record['saved'], results['tokens_saved'][best]['saved'])} the best transfer, {best}"
        said.append(f"{text}.")
    return said


def _against(share: float, other: float) -> str:
    if percent(share) == percent(other):
        return "the same as"
    return "better than" if share > other else "worse than"


def lead(results: dict[str, Any]) -> list[str]:
    """The sentences below the headline: the interval, the helper's cost, the paper's own formula, no transfer."""
    best, sentences = best_arm(results), []
    saved = results["tokens_saved"]
    if best is not None and saved[best]["saved"] > 0:
        sentences.append(_best(best, saved[best]))
    papers = [name for name in saved if results["arms"][name].get("base", name) == PAPER_METHOD]
    if best in papers and saved[best]["saved"] > 0:
        sentences.append("It is the paper's own formula.")
    sentences += [f"The paper's own formula, {n}, {_outcome(saved[n])}." for n in papers if n != best]
    told = [*papers, *own_tokenizer(results)]
    never = [
        name
        for name, r in saved.items()
        if not r["reached"] and name not in told and r["reference_bits_per_byte"] is not None
    ]
    if never and best is not None:
        sentences.append(f"{listed(never)} {'does' if len(never) == 1 else 'do'} not get there.")
    sentences += own_sentences(results)
    if saved and all(len(arm["seeds"]) == 1 for arm in results["arms"].values()):
        sentences.append("Each arm ran with one seed, so no interval can be given.")
    return sentences


def _best(name: str, record: dict[str, Any]) -> str:
    bounds = between(record["intervals"].get("saved"))
    seeds = f" (95% interval {bounds}, {len(record['seeds'])} seeds)" if bounds else ""
    text = f"That saves {percent(record['saved'])} of the training tokens{seeds}"
    flops = record["saved_flops_counting_the_helper"]
    if not record["uses_helper"]:
        return f"{text}, and {name} needs no helper model."
    if flops is None:
        return f"{text}; what its helper model cost is not known."
    worth = f"{percent(flops)} of the compute" if flops > 0 else f"nothing: it takes {percent(-flops)} more compute"
    return f"{text}; counting the training of the helper model, it saves {worth}."


def _outcome(record: dict[str, Any], loss: str = "that loss") -> str:
    if record["reference_bits_per_byte"] is None:
        return "has no such loss to reach: training from scratch diverged"
    if not record["reached"]:
        return f"does not reach {loss}" if not record["seeds_reached"] else f"reaches {loss} with some seeds only"
    if record["saved"] <= 0:
        return "saves nothing"
    return f"needs {_rest(record)} of the tokens, saving {percent(record['saved'])}"


def _rest(record: dict[str, Any]) -> str:
    """The share of tokens used, so rounded that it and the share saved make 100%."""
    shown = percent(record["saved"])[:-1]
    return f"{100 - float(shown):.{1 if '.' in shown else 0}f}%"


def step0_sentence(source: str, bits: dict[str, float | None]) -> str:
    """What the step-0 table of one source says."""
    own = bits.get("own_tokenizer")
    methods = {n: b for n, b in bits.items() if n != "own_tokenizer" and b is not None}
    if not methods:
        return ""
    best = min(methods, key=lambda name: methods[name])
    text = f"Before any training, {best} is the best start from {source}: {number(methods[best])} bits per byte"
    if own is None:
        return f"{text}."
    gap = methods[best] - own
    side = "more than" if gap > CHANCE else "less than" if gap < -CHANCE else "the same as"
    amount = f", {number(abs(gap))} {side}" if side != "the same as" else f", {side}"
    return f"{text}{amount} {source} itself with its own tokenizer ({number(own)})."


def task_sentence(task: dict[str, Any], arms: list[str]) -> str:
    """Which arms a zero-shot task tells apart from chance; of a task that measures perplexity, what it shows."""
    measured = [name for name in arms if task.get(name, {}).get("distinguishable") is not None]
    if not measured:
        if any("bits_per_byte" in task.get(name, {}) or "word_perplexity" in task.get(name, {}) for name in arms):
            return "Perplexity of the task's texts; lower is better."
        if all("error" in task.get(name, {"error": ""}) for name in arms):
            return "No arm could be measured on this task."
        return "There is no baseline here to tell the arms from chance."
    able = [name for name in measured if task[name]["distinguishable"]]
    if not able:
        return "No arm can be told apart from guessing here, so this table ranks nothing."
    if len(able) == len(measured):
        return "Every arm does better than guessing by more than the sampling error."
    verb = "does" if len(able) == 1 else "do"
    return f"Only {listed(able)} {verb} better than guessing by more than the sampling error."


def warnings(results: dict[str, Any]) -> list[tuple[str, str]]:
    """Every (where, what) that the transfer and step-0 stages warned of, each once."""
    found: dict[tuple[str, str], None] = {}
    for name, arm in results["arms"].items():
        for seed in arm["seeds"].values():
            found |= dict.fromkeys((name, text) for text in seed["warnings"])
    for source, record in results["step0_details"].items():
        for method, detail in record.get("details", {}).items():
            for text in detail.get("warnings", []):
                found[(f"{method} from {source}", text)] = None
    return list(found)


def paper_sentence(paper: dict[str, Any]) -> str:
    """What the same formula gives on the paper's curves."""
    saved = paper["saved"]
    return (
        f"On the paper's figure the same formula gives {percent(saved['saved'])}: CLP-Transfer reaches scratch's "
        f"final perplexity of {number(saved['reference_word_perplexity'], 1)} after {count(saved['arm_tokens'])} "
        f"of {count(saved['scratch_tokens'])} tokens."
    )
