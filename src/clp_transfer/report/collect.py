"""Read everything that the report shows from the folders of finished stages."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clp_transfer import manifest
from clp_transfer.errors import UserError
from clp_transfer.files import read_json
from clp_transfer.prepare.job import DataFolder
from clp_transfer.report.job import ArmRun, ReportJob
from clp_transfer.train.job import RunFolder

Record = dict[str, Any]
METRICS = ("nats_per_token", "token_perplexity", "word_perplexity", "bits_per_byte")


@dataclass(frozen=True)
class Arm:
    """One arm with one seed, as its three folders tell it.

    `curve`: validation records by rising tokens, each with `tokens` and the four METRICS.
    `seconds`: what initialising, training and evaluating took.
    """

    name: str
    seed: int
    curve: list[Record]
    summary: Record
    evaluation: Record
    transfer: Record
    seconds: dict[str, float]

    @property
    def method(self) -> str:
        """The initialisation method: as the transfer stage recorded it, else the arm's own name."""
        return str(self.transfer.get("method", self.name))


@dataclass(frozen=True)
class Collected:
    """All that was read; `manifests` maps a folder's role to its manifest."""

    arms: list[Arm]
    statistics: Record
    ingredients: dict[str, Record]
    step0: dict[str, Record]
    manifests: dict[str, Record] = field(default_factory=dict)


def collect(job: ReportJob) -> Collected:
    """Read all folders of the job.

    Raises UserError where there is no arm, an arm and seed come twice, or a needed file is missing or broken.
    """
    if not job.arms:
        raise UserError("the report has no arms to compare", "list at least one arm in the experiment's `arms`")
    pairs = [(run.arm, run.seed) for run in job.arms]
    for arm, seed in pairs:
        if pairs.count((arm, seed)) > 1:
            raise UserError(f"arm {arm} with seed {seed} is listed twice", "list every arm and every seed once")
    return Collected(
        arms=[_read_arm(run) for run in job.arms],
        statistics=_optional(DataFolder(job.data).statistics),
        ingredients={name: _optional(RunFolder(path).summary) for name, path in job.ingredients.items()},
        step0={name: read_json(path / "results.json") for name, path in job.step0.items()},
        manifests=_manifests(job),
    )


def _read_arm(run: ArmRun) -> Arm:
    folder = RunFolder(run.run)
    return Arm(
        name=run.arm,
        seed=run.seed,
        curve=read_curve(folder.metrics),
        summary=read_json(folder.summary),
        evaluation=_optional(run.evaluation / "results.json"),
        transfer=_optional(run.init / "transfer.json"),
        seconds={part: _seconds(getattr(run, part)) for part in ("init", "run", "evaluation")},
    )


def read_curve(path: Path) -> list[Record]:
    """The validation records of a run's metrics, by rising tokens; a step recorded twice counts as last written.

    Raises UserError where the file is missing, a line is not JSON, or there is no validation record.
    """
    if not path.is_file():
        raise UserError(f"{path} does not exist", "run the training of this arm first")
    points: dict[int, Record] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(f"{path}, line {number} is not JSON", "delete the run and train it again") from error
        if record.get("kind") == "validation":
            # A metric that is no number (a diverged run writes null) is kept as NaN: no value, not a crash.
            values = {name: _number(record.get(name)) for name in METRICS}
            points[record["tokens"]] = {"tokens": record["tokens"], **values}
    if not points:
        raise UserError(f"{path} has no validation record", "train with validation.points of at least 1")
    return [points[tokens] for tokens in sorted(points)]


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")


def _optional(path: Path) -> Record:
    return read_json(path) if path.is_file() else {}


def _seconds(folder: Path) -> float:
    return float(_optional(folder / manifest.NAME).get("seconds", 0.0))


def _manifests(job: ReportJob) -> dict[str, Record]:
    folders = {"data": job.data, **job.ingredients}
    folders |= {f"step 0: {name}": path for name, path in job.step0.items()}
    for run in job.arms:
        for part in ("init", "run", "evaluation"):
            folders[f"{run.arm}, seed {run.seed}: {part}"] = getattr(run, part)
    found = {name: _optional(path / manifest.NAME) for name, path in folders.items()}
    return {name: record for name, record in found.items() if record}
