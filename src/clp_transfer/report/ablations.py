"""The ablation table: runs of a sweep beside the run without the change."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from clp_transfer.report.records import Arm
from clp_transfer.report.savings import share_saved, tokens_at
from clp_transfer.report.seeds import interval, mean

NOT_A_CHANGE = ("seed",)


def ablations(arms: Sequence[Arm]) -> list[dict[str, Any]]:
    """One table for each experiment and method that has variants: the plain run first, then a row per variant.

    A row's `changed` maps a setting to [the plain run's value, this one's], as the runs' manifests state them.
    `saved`: 1 - tokens(B) / plain tokens(B), where B is the plain run's final bits per byte, seed by seed.
    """
    homes = dict.fromkeys((arm.experiment, arm.base or arm.name) for arm in arms if arm.variant)
    return [_table(experiment, base, arms) for experiment, base in homes]


def _table(experiment: str, base: str, arms: Sequence[Arm]) -> dict[str, Any]:
    mine = [arm for arm in arms if arm.experiment == experiment and (arm.base or arm.name) == base]
    plain = {arm.seed: arm for arm in mine if not arm.variant}
    variants = sorted({arm.variant for arm in mine if arm.variant})
    by_variant = {variant: [arm for arm in mine if arm.variant == variant] for variant in variants}
    first = next(iter(plain.values()), by_variant[variants[0]][0])
    # All by the same measure: where any was not evaluated, by the validation that ends training.
    evaluated = all(arm.evaluation.get("perplexity") for arm in mine)
    rows = [_row("", list(plain.values()), plain, first, evaluated)] if plain else []
    rows += [_row(variant, runs, plain, first, evaluated) for variant, runs in by_variant.items()]
    about = {"experiment": experiment, "method": base, "has_plain": bool(plain), "evaluated": evaluated}
    return {**about, "rows": rows}


def _row(variant: str, runs: Sequence[Arm], plain: dict[int, Arm], first: Arm, evaluated: bool) -> dict[str, Any]:
    finals = [_final(run, evaluated) for run in runs]
    known = [value for value in finals if value is not None]
    saved = [_saved(run, plain[run.seed]) for run in runs if variant and run.seed in plain]
    reached = [value for value in saved if value is not None]
    whole = bool(saved) and len(reached) == len(saved)
    return {
        "variant": variant,
        "changed": changed(_settings(first), _settings(runs[0])) if variant else {},
        "seeds": sorted(run.seed for run in runs),
        "tokens": mean([float(run.summary["tokens"]) for run in runs]),
        "bits_per_byte": mean(known) if known and len(known) == len(finals) else None,
        "interval": interval(known) if len(known) == len(finals) else None,
        "saved": mean(reached) if whole else None,
        "saved_interval": interval(reached) if whole else None,
        "compared": len(saved),
        "reached": len(reached),
    }


def _final(arm: Arm, evaluated: bool) -> float | None:
    """Final bits per byte: on all held-out text, or where the curve ends."""
    value = (arm.evaluation["perplexity"] if evaluated else arm.curve[-1])["bits_per_byte"]
    return None if value is None or math.isnan(value) else value


def _saved(run: Arm, plain: Arm) -> float | None:
    curves = [[(point["tokens"], point["bits_per_byte"]) for point in arm.curve] for arm in (run, plain)]
    target = curves[1][-1][1]
    return share_saved(tokens_at(curves[0], target), tokens_at(curves[1], target))


def _settings(arm: Arm) -> dict[str, Any]:
    return arm.manifests.get("run", {}).get("settings", {})


def changed(there: Any, here: Any, where: str = "") -> dict[str, list[Any]]:
    """The settings that differ between two trees of them, `optim.lr: [0.002, 0.004]`."""
    if isinstance(there, dict) or isinstance(here, dict):
        one, other = (value if isinstance(value, dict) else {} for value in (there, here))
        found: dict[str, list[Any]] = {}
        for key in [*one, *(key for key in other if key not in one)]:
            if where or key not in NOT_A_CHANGE:
                found |= changed(one.get(key), other.get(key), f"{where}.{key}".lstrip("."))
        return found
    return {} if there == here else {where: [there, here]}
