"""Which models the demo shows, and opening them; one that cannot be opened says why and leaves the others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clp_transfer.clp.job import OWN_TOKENIZER
from clp_transfer.errors import UserError
from clp_transfer.files import read_json
from clp_transfer.report.find import find
from clp_transfer.report.job import ArmRun
from clp_transfer.train.job import RunFolder


@dataclass(frozen=True)
class Choice:
    """A model by the name that the page gives it; `path` is a folder that `save_pretrained` wrote."""

    name: str
    path: Path


@dataclass(frozen=True)
class Opened:
    """A model that is ready, with its tokenizer; or the reason why it is not, in `error`."""

    name: str
    model: Any = None
    tokenizer: Any = None
    error: str = ""


def parse(text: str) -> Choice:
    """`name=folder`, or a folder alone, whose name is then its own; raises UserError for an empty part."""
    name, equals, path = text.partition("=")
    if not equals:
        name, path = Path(text).name, text
    if not name or not path:
        raise UserError(f"--model {text} is no name=folder", "write for example --model ours=outputs/mini/runs/x/model")
    return Choice(name, Path(path).expanduser())


def of_experiment(root: Path) -> list[Choice]:
    """An experiment's source, its model trained from scratch, and the transferred model with the lowest final loss.

    The source that kept its own tokenizer is not transferred. What the experiment does not have is left out. Raises
    UserError where it has none of them.
    """
    if not root.is_dir():
        raise UserError(
            f"{root} does not exist", "run it first (make reproduce), or name models with --model name=folder"
        )
    job = find([root], root / "report")
    source = RunFolder(root / "runs" / "source").model
    found = [Choice("source", source)] if source.is_dir() else []
    scratch = [run for run in job.arms if run.base == "scratch" and not run.variant]
    found += [Choice(run.arm, RunFolder(run.run).model) for run in scratch[:1]]
    # Where there is nothing but a sweep, a base has its variant: `own,optim.lr=0.001`.
    transferred = [run for run in job.arms if run.base.partition(",")[0] not in ("scratch", OWN_TOKENIZER)]
    best = min(transferred, key=_final, default=None)
    if best is not None:
        found.append(Choice(best.arm, RunFolder(best.run).model))
    if not found:
        raise UserError(f"{root} has no trained model yet", "train one, or name models with --model name=folder")
    return found


def _final(run: ArmRun) -> float:
    """Final bits per byte, as its training measured it; infinite where that is not known."""
    try:
        value = read_json(RunFolder(run.run).summary)["final"]["bits_per_byte"]
    except (UserError, KeyError, TypeError):
        return math.inf
    return float(value) if isinstance(value, int | float) else math.inf


def open_models(choices: Sequence[Choice]) -> list[Opened]:
    """Load every model; raises UserError where two have one name."""
    names = [choice.name for choice in choices]
    double = next((name for name in names if names.count(name) > 1), None)
    if double is not None:
        raise UserError(f"two models are called {double}", "give each its own name: --model name=folder")
    return [_open(choice) for choice in choices]


def _open(choice: Choice) -> Opened:
    from clp_transfer.evaluate.load import load_model, load_tokenizer

    if not choice.path.is_dir():
        return Opened(choice.name, error=f"there is no folder {choice.path}")
    try:
        model = load_model(choice.path)
        return Opened(choice.name, model, load_tokenizer(choice.path, model))
    except UserError as error:
        return Opened(choice.name, error=error.problem)
    except Exception as error:  # whatever a broken file makes a package raise: the other models are still there
        return Opened(choice.name, error=f"{choice.path} cannot be loaded: {type(error).__name__}: {error}")
