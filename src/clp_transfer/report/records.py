"""What one run tells, and everything that was read, as the rest of the report sees it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clp_transfer.errors import UserError

Record = dict[str, Any]
LARGEST_EXPONENT = 1000  # 2 to more is no float
METRICS = ("nats_per_token", "token_perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte")


@dataclass(frozen=True)
class Arm:
    """One arm with one seed, as its three folders tell it.

    `curve`: validation records by rising tokens, each with `tokens` and the METRICS. `seconds`: what initialising,
    training and evaluating took. `experiment`, `base`, `variant`: see ArmRun. `manifests`: by part (`run`, `init`,
    `evaluation`), for what they say of settings and inputs.
    """

    name: str
    seed: int
    curve: list[Record]
    summary: Record
    evaluation: Record
    transfer: Record
    seconds: dict[str, float]
    experiment: str = ""
    base: str = ""
    variant: str = ""
    manifests: dict[str, Record] = field(default_factory=dict)

    @property
    def method(self) -> str:
        """The initialisation method: as the transfer stage recorded it, else the arm's own name."""
        return str(self.transfer.get("method", self.base or self.name))

    def input(self, part: str, name: str) -> str | None:
        """The content hash of an input of one of the arm's stages; None where no manifest says it."""
        return self.manifests.get(part, {}).get("inputs", {}).get(name)


@dataclass(frozen=True)
class Collected:
    """All that was read; `manifests` maps a folder's role to its manifest, `lost` says what could not be read."""

    arms: list[Arm]
    statistics: Record
    ingredients: dict[str, Record]
    step0: dict[str, Record]
    manifests: dict[str, Record] = field(default_factory=dict)
    lost: list[dict[str, str]] = field(default_factory=list)


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
            points[record["tokens"]] = point(record)
    if not points:
        raise UserError(f"{path} has no validation record", "train with validation.points of at least 1")
    return [points[tokens] for tokens in sorted(points)]


def point(record: Record) -> Record:
    """Tokens and METRICS of a validation record."""
    # A metric that is no number (a diverged run writes null) is kept as NaN: no value, not a crash.
    values = {name: _number(whole(record).get(name)) for name in METRICS}
    return {"tokens": record["tokens"], **values}


def whole(record: Record) -> Record:
    """The record with its perplexity per byte, which, where it was not recorded, is 2 ** bits per byte."""
    bits = record.get("bits_per_byte")
    if record.get("byte_perplexity") is None and isinstance(bits, int | float) and bits < LARGEST_EXPONENT:
        return {**record, "byte_perplexity": 2.0**bits}
    return record


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")
