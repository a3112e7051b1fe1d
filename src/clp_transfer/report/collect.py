"""Read everything that the report shows from the folders of finished stages; what cannot be read is told, not fatal."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from clp_transfer import manifest
from clp_transfer.errors import UserError
from clp_transfer.files import read_json
from clp_transfer.prepare.folder import DataFolder
from clp_transfer.report.job import ArmRun, ReportJob
from clp_transfer.report.kept import arms_of, ingredients_of, statistics_of, step0_of
from clp_transfer.report.records import Arm, Collected, Record, read_curve
from clp_transfer.train.job import RunFolder

log = logging.getLogger(__name__)


def collect(job: ReportJob) -> Collected:
    """Read all folders of the job; a run that is missing, unfinished or broken becomes a row of `lost`.

    Raises UserError where there is no arm, no arm can be read, or an arm and seed come twice.
    """
    if not job.arms and not job.kept:
        told = "; ".join(f"{row['run']}: {row['reason']}" for row in job.lost)
        if told:
            raise UserError(f"nothing here can be compared: {told}", "name runs that are finished (docs/report.md)")
        raise UserError("the report has no arms to compare", "list at least one arm in the experiment's `arms`")
    pairs = [(run.arm, run.variant, run.seed) for run in job.arms]
    for arm, variant, seed in pairs:
        if pairs.count((arm, variant, seed)) > 1:
            raise UserError(f"arm {arm} with seed {seed} is listed twice", "list every arm and every seed once")
    lost = list(job.lost)
    arms = [arm for run in job.arms if (arm := _try(lost, _called(run), partial(_read_arm, run, lost)))]
    kept_step0: dict[str, Record] = {}
    ingredients = {name: _summary(lost, name, path) for name, path in job.ingredients.items()}
    for name, path in job.kept.items():
        arms += _try(lost, name, partial(arms_of, path, name, job.apart, lost)) or []
        ingredients |= _try([], name, partial(ingredients_of, path, name)) or {}
        kept_step0 |= _try([], name, partial(step0_of, path)) or {}
    for row in lost:
        log.warning("left out of the report: %s: %s", row["run"], row["reason"])
    if not arms:
        told = "\n    ".join(f"{row['run']}: {row['reason']}" for row in lost)
        raise UserError(
            f"no arm can be read:\n    {told}", "finish at least one run (make reproduce goes on from there)"
        )
    step0 = {name: _try(lost, f"step 0: {name}", partial(_step0, path)) for name, path in job.step0.items()}
    return Collected(
        arms=arms,
        statistics=_statistics(job, lost),
        ingredients=ingredients,
        step0=kept_step0 | {name: record for name, record in step0.items() if record},
        manifests=_manifests(job),
        lost=lost,
    )


def _called(run: ArmRun) -> str:
    return f"{run.arm}{',' if run.variant else ''}{run.variant}, seed {run.seed}"


def _try(lost: list[dict[str, str]], what: str, read: Callable[[], Any]) -> Any:
    """What `read` returns; where that cannot be, None, and a row that says why."""
    try:
        return read()
    except UserError as error:
        reason = error.problem
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        reason = f"its files do not hold what they should: {type(error).__name__} {error}"
    lost.append({"run": what, "reason": reason})
    return None


def _read_arm(run: ArmRun, lost: list[dict[str, str]]) -> Arm:
    folder = RunFolder(run.run)
    summary = _object(folder.summary)
    missing = [name for name in ("tokens", "flops") if not isinstance(summary.get(name), int | float)]
    if missing:
        raise UserError(f"{folder.summary} has no {' and no '.join(missing)}", "train this arm again")
    return Arm(
        name=run.arm,
        seed=run.seed,
        curve=read_curve(folder.metrics),
        summary=summary,
        evaluation=_evaluation(run, lost),
        transfer=_optional(run.init / "transfer.json"),
        seconds={part: _seconds(getattr(run, part)) for part in ("init", "run", "evaluation")},
        experiment=run.experiment,
        base=run.base,
        variant=run.variant,
        manifests={part: _optional(getattr(run, part) / manifest.NAME) for part in ("run", "init", "evaluation")},
    )


def _evaluation(run: ArmRun, lost: list[dict[str, str]]) -> Record:
    """The evaluation's results; where they are missing or broken the arm stays, without a final measurement."""
    path = run.evaluation / "results.json"
    found: Record = {}
    reason = f"not evaluated: {path} does not exist"
    if path.is_file():
        try:
            found, reason = _object(path), ""
        except UserError as error:
            reason = f"its evaluation cannot be read: {error.problem}"
    perplexity = found.get("perplexity")
    if perplexity and not all(isinstance(perplexity.get(n), int | float) for n in ("bits_per_byte", "nats_per_token")):
        found = {name: value for name, value in found.items() if name != "perplexity"}
        reason = f"{path} has no perplexity that is a number"
    if reason and not (run.variant and not path.is_file()):  # an ablation needs none
        lost.append({"run": _called(run), "reason": f"{reason}; its curve is shown"})
    return found


def _object(path: Path) -> Record:
    found = read_json(path)
    if not isinstance(found, dict):
        raise UserError(f"{path} holds no JSON object", "delete it and run its stage again")
    return found


def _optional(path: Path) -> Record:
    return _object(path) if path.is_file() else {}


def _seconds(folder: Path) -> float:
    return float(_optional(folder / manifest.NAME).get("seconds", 0.0))


def _step0(folder: Path) -> Record:
    found = _object(folder / "results.json")
    if not isinstance(found.get("bits_per_byte"), dict):
        raise UserError(f"{folder / 'results.json'} has no bits_per_byte", "delete it and run its stage again")
    return found


def _summary(lost: list[dict[str, str]], name: str, folder: Path) -> Record:
    return _try(lost, name, partial(_optional, RunFolder(folder).summary)) or {}


def _statistics(job: ReportJob, lost: list[dict[str, str]]) -> Record:
    """The data's statistics; of several experiments, tables that differ get the experiment's name."""
    merged: Record = _try(lost, "data", partial(_optional, DataFolder(job.data).statistics)) or {}
    others = {name: partial(_optional, DataFolder(folder).statistics) for name, folder in job.more_data.items()}
    others |= {name: partial(statistics_of, path) for name, path in job.kept.items()}
    for name, read in others.items():
        other = _try(lost, f"data of {name}", read) or {}
        for part in ("corpora", "packs", "overlap"):
            mine = merged.setdefault(part, {})
            for key, value in other.get(part, {}).items():
                if key not in mine:
                    mine[key] = value
                elif mine[key] != value:
                    mine[f"{name}: {key}"] = value
    return merged


def _manifests(job: ReportJob) -> dict[str, Record]:
    folders = {"data": job.data, **{f"data of {name}": path for name, path in job.more_data.items()}}
    folders |= job.ingredients
    folders |= {f"step 0: {name}": path for name, path in job.step0.items()}
    for run in job.arms:
        for part in ("init", "run", "evaluation"):
            folders[f"{_called(run)}: {part}"] = getattr(run, part)
    found = {name: _try([], name, partial(_optional, path / manifest.NAME)) for name, path in folders.items()}
    return {name: record for name, record in found.items() if record}
