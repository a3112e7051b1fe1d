"""Tokens saved: how much sooner an arm reaches the final value of training from scratch.

    saved = 1 - tokens_arm(B*) / tokens_scratch(B*),   B* = scratch's final bits per byte

The paper states its saving at matched perplexity; bits per byte gives the same crossing for one tokenizer and
stays comparable across tokenizers. An arm that never gets to B* has no saving: null, with `reached` false. Neither has
one where scratch diverged: B* is then no number.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from clp_transfer.clp.job import AUTO, NEEDS_HELPER, TRANSFERS
from clp_transfer.report.records import Arm
from clp_transfer.report.seeds import interval, mean

REFERENCE = "scratch"
# These need no helper model, only its tokenizer, which costs next to nothing. Whatever else there is counts it.
WITHOUT_HELPER = frozenset({REFERENCE, *TRANSFERS}) - NEEDS_HELPER - {AUTO}


def tokens_at(points: Sequence[tuple[float, float]], target: float) -> float | None:
    """Tokens at which a curve of (tokens, value) first comes down to the target, by linear interpolation.

    0 where the first point, at 0 tokens, is already there; None where no point is. The curve may rise in between.
    """
    before: tuple[float, float] | None = None
    for tokens, value in points:
        if value <= target:
            if before is None:
                return tokens
            start, high = before
            return start + (tokens - start) * (high - target) / (high - value)
        # After a point that is no number there is nothing to interpolate from: keep the last real one.
        before = (tokens, value) if not math.isnan(value) else before
    return None


def share_saved(ours: float | None, theirs: float | None) -> float | None:
    """1 - ours / theirs; None where either is unknown or there is nothing to save."""
    if ours is None or not theirs:
        return None
    return 1 - ours / theirs


def of_seed(arm: Arm, scratch: Arm, helper_flops: float | None) -> dict[str, Any]:
    """The saving of one arm against scratch, both of the same seed.

    FLOPs count the arm up to the crossing and, for a method that uses one, all of the helper's training
    (`helper_flops`, None where unknown). The source's training is not counted: it exists already.
    """
    target = scratch.curve[-1]["bits_per_byte"]
    scratch_tokens = tokens_at(_points(scratch), target)
    arm_tokens = tokens_at(_points(arm), target)
    uses_helper = arm.method not in WITHOUT_HELPER
    flops = _plus(_flops(arm, arm_tokens), helper_flops if uses_helper else 0.0)
    return {
        "reference_bits_per_byte": target,
        "scratch_tokens": scratch_tokens,
        "arm_tokens": arm_tokens,
        "saved": share_saved(arm_tokens, scratch_tokens),
        "scratch_flops": _flops(scratch, scratch_tokens),
        "arm_flops": _flops(arm, arm_tokens),
        "saved_flops": share_saved(_flops(arm, arm_tokens), _flops(scratch, scratch_tokens)),
        "saved_flops_counting_the_helper": share_saved(flops, _flops(scratch, scratch_tokens)),
        "reached": arm_tokens is not None,
        "uses_helper": uses_helper,
        "reference": scratch.name,
    }


def _flops(arm: Arm, tokens: float | None) -> float | None:
    per_token = arm.summary.get("flops_per_token")
    return None if tokens is None or per_token is None else tokens * per_token


def _plus(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else first + second


def tokens_saved(
    arms: Sequence[Arm], helper_flops: float | Mapping[str, float | None] | None
) -> dict[str, dict[str, Any]]:
    """The saving of every arm but scratch, by arm; empty where nothing was trained from scratch.

    With several seeds each value is the mean over seeds, beside `intervals` (95%) and each of the `seeds`.
    An arm that some seed does not get to B* has no mean: null, `reached` false, `seeds_reached` says how many.
    `helper_flops`: of several experiments, each one's by its name. `reference` is the name of the scratch arm.
    """
    found: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(arm.name for arm in arms if not is_scratch(arm)):
        by_seed = {}
        for arm in (arm for arm in arms if arm.name == name):
            scratch = scratch_of(arm, arms)
            flops = helper_flops.get(arm.experiment) if isinstance(helper_flops, Mapping) else helper_flops
            if scratch is not None:
                by_seed[arm.seed] = of_seed(arm, scratch, flops)
        if by_seed:
            found[name] = _over_seeds(by_seed)
    return found


def references(results: Mapping[str, Any]) -> list[str]:
    """The names of the arms in `results.json` that were trained from scratch: one, or one of each experiment."""
    return [name for name, arm in results["arms"].items() if arm.get("base", name) == REFERENCE]


def is_scratch(arm: Arm) -> bool:
    """Whether an arm is training from scratch, whose final loss the others are held against."""
    return (arm.base or arm.name) == REFERENCE and not arm.variant


def scratch_of(arm: Arm, arms: Sequence[Arm]) -> Arm | None:
    """Training from scratch with the arm's seed: its own experiment's, else one measured on the very same tokens."""
    candidates = [one for one in arms if is_scratch(one) and one.seed == arm.seed]
    own = [one for one in candidates if one.experiment == arm.experiment]
    text = arm.input("run", "validation")
    same = [one for one in candidates if text is not None and one.input("run", "validation") == text]
    return next(iter(own + same), None)


def _over_seeds(by_seed: dict[int, dict[str, Any]]) -> dict[str, Any]:
    records = list(by_seed.values())
    merged: dict[str, Any] = {}
    intervals: dict[str, Any] = {}
    for name in records[0]:
        values = [record[name] for record in records]
        if name in ("reached", "uses_helper"):
            merged[name] = all(values)
        elif name == "reference":
            merged[name] = values[0]
        else:
            merged[name] = None if None in values else mean(values)
            if len(values) > 1:
                intervals[name] = None if None in values else interval(values)
    merged["seeds_reached"] = sum(record["reached"] for record in records)
    merged["intervals"] = intervals
    merged["seeds"] = {str(seed): record for seed, record in by_seed.items()}
    return merged


def _points(arm: Arm) -> list[tuple[float, float]]:
    return [(point["tokens"], point["bits_per_byte"]) for point in arm.curve]
