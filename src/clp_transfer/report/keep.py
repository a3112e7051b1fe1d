"""What of an experiment is kept in the repository: numbers and figures; no weights, no text, no paths of a machine."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from clp_transfer.files import read_json, write_json
from clp_transfer.report.records import Record

# The samples are text, and the config and the folders' names say nothing that the commit does not.
KEPT = (
    "name", "seeds", "arms", "tokens_saved", "helper_flops", "ablations", "step0", "tasks", "texts", "statistics",
    "cost", "provenance",
)  # fmt: skip
# Of the config: what of it decides the numbers, and no place.
SETTINGS = (
    "arms", "seeds", "one_seed", "fraction", "budget", "optim", "phases", "validation", "train", "architecture",
    "transfer", "method", "evaluate", "tasks", "limit", "tuning_rates", "tuning_tokens", "step0_methods",
)  # fmt: skip


def keep_report(report: Path, results: Path) -> None:
    """A report's numbers as `results.json`, its settings as `settings.json`, and its figures."""
    whole = read_json(report / "results.json")
    found = {part: value for part, value in whole.items() if part in KEPT}
    found["arms"] = {
        name: {part: value for part, value in arm.items() if part != "samples"} for name, arm in found["arms"].items()
    }
    found["statistics"] = statistics(found.get("statistics") or {})
    write_json(results / "results.json", found)
    write_json(results / "settings.json", {key: whole["config"][key] for key in SETTINGS if key in whole["config"]})
    for figure in sorted((report / "figures").glob("*.png")):
        shutil.copyfile(figure, results / figure.name)


def statistics(found: Record) -> Record:
    """A data folder's statistics, the files by their names alone, without the examples of what was left out."""
    corpora = {
        name: {part: _named(value) if part == "sources" else value for part, value in one.items() if part != "examples"}
        for name, one in (found.get("corpora") or {}).items()
    }
    return {**found, "corpora": corpora} if corpora else found


def _named(sources: list[Record]) -> list[Record]:
    return [{**one, "name": Path(one["name"]).name if one["name"].startswith("/") else one["name"]} for one in sources]


def keep_rest(experiment: Path, results: Path) -> None:
    """What a report does not say, as far as it is there.

    `tuning.json`, as `make tune` wrote it; `helpers.json`: each helper's summary by its run's name; `step0.json`: bits
    per byte by source, method and seed; `evaluations.json`: models that no run made, such as the untouched source.
    """
    if (experiment / "tuning.json").is_file():
        write_json(results / "tuning.json", read_json(experiment / "tuning.json"))
    helpers = {path.parent.name: read_json(path) for path in sorted(experiment.glob("runs/helper*/summary.json"))}
    others = {
        path.parent.name: {part: read_json(path).get(part) for part in ("perplexity", "texts", "tasks")}
        for path in sorted(experiment.glob("evaluations/*/results.json"))
        if not (experiment / "runs" / path.parent.name).exists()
    }
    for name, found in {"helpers": helpers, "step0": _step0(experiment), "evaluations": others}.items():
        if found:
            write_json(results / f"{name}.json", found)


def _step0(experiment: Path) -> dict[str, dict[str, Any]]:
    """{source: {`bytes`, `bits_per_byte`: {method: {seed: value}}}}, of folders called `<source>,seed<n>`."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(experiment.glob("step0/*/results.json")):
        source, _, seed = path.parent.name.partition(",")
        record = read_json(path)
        one = found.setdefault(source, {"bytes": record["bytes"], "bits_per_byte": {}})
        for method, bits in record["bits_per_byte"].items():
            one["bits_per_byte"].setdefault(method, {})[seed.removeprefix("seed") or "1"] = bits
    return found
