"""Merge what was collected into the one value that `results.json` holds and the page shows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from clp_transfer.made_with import provenance
from clp_transfer.report.ablations import ablations
from clp_transfer.report.comparability import cautions
from clp_transfer.report.cost import cost
from clp_transfer.report.job import ReportJob, ingredient
from clp_transfer.report.paper import paper
from clp_transfer.report.records import Arm, Collected
from clp_transfer.report.savings import tokens_saved
from clp_transfer.report.seeds import curve_intervals, interval, mean, mean_curve
from clp_transfer.report.tasks import tasks
from clp_transfer.report.texts import merged, texts


def assemble(job: ReportJob, collected: Collected) -> dict[str, Any]:
    """The results: JSON values only; a number that is not finite becomes null."""
    arms = [arm for arm in collected.arms if not arm.variant]
    names = list(dict.fromkeys(arm.name for arm in arms))
    helpers = helper_flops(collected)
    results = {
        "name": job.name,
        "experiments": [name for name in dict.fromkeys(arm.experiment for arm in arms) if name],
        "seeds": sorted({arm.seed for arm in arms}),
        "arms": {name: _arm([a for a in arms if a.name == name]) for name in names},
        "tokens_saved": tokens_saved(arms, helpers),
        "helper_flops": helpers,
        "cautions": cautions(arms),
        "left_out": collected.lost,
        "ablations": ablations(collected.arms),
        "step0": {source: record["bits_per_byte"] for source, record in collected.step0.items()},
        "step0_details": {
            source: {key: value for key, value in record.items() if key != "bits_per_byte"}
            for source, record in collected.step0.items()
        },
        "tasks": tasks(arms),
        "texts": texts(arms),
        "statistics": collected.statistics,
        "cost": cost(collected),
        "paper": paper(),
        "config": job.config,
        "provenance": _provenance(collected),
    }
    return finite(results)


def helper_flops(collected: Collected) -> dict[str, float | None]:
    """FLOPs of training the helper, by experiment; None where there is no run for it (a model the user brought)."""
    found = {}
    for experiment in dict.fromkeys(arm.experiment for arm in collected.arms):
        flops = collected.ingredients.get(ingredient(experiment, "helper"), {}).get("flops")
        found[experiment] = None if flops is None else float(flops)
    return found


def _arm(runs: Sequence[Arm]) -> dict[str, Any]:
    """One arm's results: means over its seeds, and each seed's own below `seeds`."""
    curves = [run.curve for run in runs]
    finals = [run.evaluation["perplexity"] for run in runs if run.evaluation.get("perplexity")]
    bits = [final["bits_per_byte"] for final in finals]
    first = runs[0]
    return {
        "method": first.method,
        "experiment": first.experiment,
        "base": first.base or first.name,
        "lr": first.summary.get("lr"),
        "parameters": first.summary.get("parameters"),
        "tokens": mean([run.summary["tokens"] for run in runs]),
        "flops": mean([run.summary["flops"] for run in runs]),
        "flops_per_token": first.summary.get("flops_per_token"),
        "curve": mean_curve(curves),
        "intervals": curve_intervals(curves),
        "final": merged(finals),
        "final_bits_per_byte_interval": interval(bits),
        "transfer": first.transfer,
        "samples": first.evaluation.get("samples", []),
        "seeds": {str(run.seed): _seed(run) for run in runs},
    }


def _seed(run: Arm) -> dict[str, Any]:
    return {
        "curve": run.curve,
        "final": run.evaluation.get("perplexity", {}),
        "summary": {key: value for key, value in run.summary.items() if key != "final"},
        "seconds": run.seconds,
        "warnings": run.transfer.get("warnings", []),
    }


def _provenance(collected: Collected) -> dict[str, Any]:
    """This report's code and machine, and for every input folder its key, when it ended and from which commit."""
    inputs = {
        name: {
            "key": record.get("key"),
            "finished": record.get("finished"),
            "git": record.get("provenance", {}).get("git"),
        }
        for name, record in collected.manifests.items()
    }
    return {**provenance(), "inputs": inputs}


def finite(value: Any) -> Any:
    """The value with every NaN and infinity replaced by None, which strict JSON can hold."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
