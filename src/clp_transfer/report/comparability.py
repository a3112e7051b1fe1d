"""Whether the arms can be compared at all: unequal budgets, other texts, other tokenizers, other ways of measuring."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence

from clp_transfer.report.records import Arm
from clp_transfer.report.savings import is_scratch, scratch_of
from clp_transfer.report.words import count, listed

SAME_BUDGET = 0.02  # runs end on whole batches
# How a text was measured; its length in bytes and words says which text it was.
WAYS = ("policy", "windows", "window", "stride", "bos", "precision")


def cautions(arms: Sequence[Arm]) -> list[str]:
    """One sentence for each thing that differs between arms and that a reader of the tables must know."""
    found = [_budgets(arms), *_texts(arms), _training_texts(arms), _ways(arms), _precisions(arms), _borrowed(arms)]
    return [text for text in [*found, *_references(arms)] if text]


def _names(names: Sequence[str], arms: Sequence[Arm]) -> str:
    """Arms in words; where a group has all the arms of an experiment, the experiment."""
    whole: dict[str, str] = {}
    for experiment in dict.fromkeys(arm.experiment for arm in arms if arm.experiment):
        members = list(dict.fromkeys(arm.name for arm in arms if arm.experiment == experiment))
        if len(members) > 1 and set(members) <= set(names):
            whole |= dict.fromkeys(members, f"all of {experiment}")
    return listed(list(dict.fromkeys(whole.get(name, name) for name in names)))


def _groups(arms: Sequence[Arm], key: Callable[[Arm], Hashable]) -> dict[Hashable, list[str]]:
    """Arms' names by a property; arms of which it is not known are left out."""
    groups: dict[Hashable, list[str]] = {}
    for arm in arms:
        value = key(arm)
        if value is not None and arm.name not in groups.setdefault(value, []):
            groups[value].append(arm.name)
    return groups


def _budgets(arms: Sequence[Arm]) -> str:
    groups: dict[float, list[str]] = {}
    for arm in arms:
        tokens = float(arm.summary["tokens"])
        near = next((one for one in groups if abs(one - tokens) <= SAME_BUDGET * max(one, tokens)), tokens)
        if arm.name not in groups.setdefault(near, []):
            groups[near].append(arm.name)
    if len(groups) < 2:
        return ""
    told = "; ".join(f"{count(tokens)} tokens: {_names(names, arms)}" for tokens, names in groups.items())
    return f"Unequal budgets ({told}): final values compare only within one budget, crossings at equal tokens still do."


def _precisions(arms: Sequence[Arm]) -> str:
    groups = _groups(arms, lambda arm: arm.summary.get("precision"))
    if len(groups) < 2:
        return ""
    told = "; ".join(f"{precision}: {_names(names, arms)}" for precision, names in groups.items())
    return f"Trained in other precisions ({told}): small differences may be theirs; set train.precision to compare."


def _texts(arms: Sequence[Arm]) -> list[str]:
    """What differs in the held-out text: the text itself, or only the tokens it was cut into."""
    texts = _held_out(arms)
    tokenizers = _groups(arms, lambda arm: arm.input("run", "tokenizer"))
    found = []
    if len(texts) > 1:
        told = "; ".join(_names(names, arms) for names in texts.values())
        found.append(f"Other held-out text ({told}): no loss and no perplexity compares between these groups.")
    if len(tokenizers) > 1:
        told = "; ".join(_names(names, arms) for names in tokenizers.values())
        found.append(
            f"Other tokenizers ({told}): between these groups nats and perplexity per token do not compare; bits per "
            "byte and perplexity per word or byte do, on the same text."
        )
    return found


def _held_out(arms: Sequence[Arm]) -> dict[Hashable, list[str]]:
    """Arms by their held-out text: by its size, which is the same in any tokens, else by its pack; never across.

    An arm that was not evaluated has no size. Packs tell only where all arms have one tokenizer: another one makes
    other packs of the same text. Arms that lack what is compared are left out.
    """
    by_size = _groups(arms, _size)
    one_tokenizer = len({arm.input("run", "tokenizer") for arm in arms}) == 1
    if len(by_size) > 1 or not one_tokenizer or all(_size(arm) is not None for arm in arms):
        return by_size
    return _groups(arms, lambda arm: arm.input("run", "validation"))


def _size(arm: Arm) -> Hashable:
    """Bytes, words and documents of the text that the final value was measured on; None where it is not known."""
    final = arm.evaluation.get("perplexity", {})
    found = tuple(final.get(name) for name in ("bytes", "words", "documents"))
    return None if None in found else found


def _training_texts(arms: Sequence[Arm]) -> str:
    tokenizers = {arm.input("run", "tokenizer") for arm in arms}
    groups = _groups(arms, lambda arm: arm.input("run", "train"))
    if len(groups) < 2 or len(tokenizers) > 1:  # another tokenizer makes other packs of the same text
        return ""
    told = "; ".join(_names(names, arms) for names in groups.values())
    return f"Trained on other text ({told}): differences between these groups are not the initialisation's alone."


def _ways(arms: Sequence[Arm]) -> str:
    finals = [arm.evaluation["perplexity"] for arm in arms if arm.evaluation.get("perplexity")]
    # Older results say less: only what all of them say can differ.
    said = [name for name in WAYS if finals and all(name in final for final in finals)]
    groups = _groups(arms, lambda arm: _way(arm, said) or None)
    if len(groups) < 2:
        return ""
    told = "; ".join(f"{_names(names, arms)}: {way}" for way, names in groups.items())
    return f"Final values measured in different ways ({told}): they do not compare between these groups."


def _way(arm: Arm, said: Sequence[str]) -> str:
    """How the final value was measured, in words; its policy only where nothing shorter says it."""
    final = arm.evaluation.get("perplexity")
    short = [name for name in said if name != "policy"] if "windows" in said else said
    return ", ".join(f"{name} {final[name]}" for name in short) if final else ""


def _borrowed(arms: Sequence[Arm]) -> str:
    pairs = [(arm, scratch_of(arm, arms)) for arm in arms if not is_scratch(arm)]
    names = list(dict.fromkeys(arm.name for arm, ref in pairs if ref and ref.experiment != arm.experiment))
    if not names:
        return ""
    verb = "is" if len(names) == 1 else "are"
    return f"{listed(names)} {verb} held against another experiment's training from scratch, on the same held-out text."


def _references(arms: Sequence[Arm]) -> list[str]:
    """Seeds whose saving is missing from an arm's mean: no training from scratch beside them, or one that diverged."""
    alone: dict[int, list[str]] = {}
    diverged: dict[int, list[str]] = {}
    counted = {arm.name for arm in arms if not is_scratch(arm) and scratch_of(arm, arms) is not None}
    for arm in arms:
        reference = scratch_of(arm, arms)
        if is_scratch(arm):
            continue
        if reference is None and arm.name in counted:
            alone.setdefault(arm.seed, []).append(arm.name)
        elif reference is not None and math.isnan(reference.curve[-1]["bits_per_byte"]):
            diverged.setdefault(arm.seed, []).append(reference.name)
    found = [
        f"Seed {seed} of {listed(names)} has no training from scratch: tokens saved are of the other seeds."
        for seed, names in alone.items()
    ]
    return found + [
        f"{listed(list(dict.fromkeys(names)))} with seed {seed} diverged: it has no final loss to hold an arm against."
        for seed, names in diverged.items()
    ]
