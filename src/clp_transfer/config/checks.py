"""Values that are of the right type and still make no sense; refused before anything is computed."""

from __future__ import annotations

from collections.abc import Callable

from clp_transfer.clp.job import LINKS
from clp_transfer.clp.limits import check_ranges
from clp_transfer.config.schema import Config
from clp_transfer.errors import UserError
from clp_transfer.evaluate.job import PRECISIONS, WINDOWS
from clp_transfer.train.job import CHOICES as TRAIN_CHOICES

POSITIVE = (
    "budget.tokens",
    "budget.batch_tokens",
    "budget.sequence_length",
    "budget.micro_batch",
    "budget.steps",
    "budget.epochs",
    "phases.lr",
    "phases.batch_tokens",
    "phases.cycles",
    "phases.embedding_cycles",
    "validation.every",
    "train.checkpoint_tokens",
    "train.keep",
    "train.permanent_tokens",
    "validation.points",
    "validation.batch_size",
    "validation.max_bytes",
    "evaluate.window",
    "evaluate.stride",
    "evaluate.batch_size",
    "evaluate.max_bytes",
    "evaluate.task_documents",
    "evaluate.sample_tokens",
    "evaluate.step0_window",
    "evaluate.step0_bytes",
    "train.threads",
    "evaluate.threads",
    "transfer.pad_to_multiple_of",
    "optim.lr",
    "optim.eps",
    "optim.clip_norm",
    "pipeline.workers",
    "pipeline.seconds",
    "tuning_tokens",
    "limit",
)
SHARES = (
    "optim.warmup_share",
    "optim.min_lr_ratio",
    "optim.decay_share",
    "phases.share",
    "phases.warmup_share",
)
NOT_NEGATIVE = ("evaluate.bootstrap", "evaluate.fewshot")
CHOICES: dict[str, tuple[object, ...]] = {
    **TRAIN_CHOICES,
    "transfer.links": LINKS,
    "evaluate.windows": WINDOWS,
    "evaluate.precision": PRECISIONS,
}
FOLDERS = ("name", "data_of", "tuning_of", "variant")
WITHOUT_REPEATS = ("arms", "one_seed", "seeds", "tuning_rates")


def check(config: Config) -> None:
    """Raise UserError for the first value out of its range: its key, the value, what was expected."""
    check_ranges(config.method)
    _each(config, POSITIVE, lambda value: value > 0, "more than 0")
    _each(config, NOT_NEGATIVE, lambda value: value >= 0, "0 or more")
    for key, choices in CHOICES.items():
        _each(config, (key,), lambda value, choices=choices: value in choices, " or ".join(map(str, choices)))
    _each(config, ("helper",), _is_helper, "a model, or a list of models with one tokenizer")
    _each(config, ("train.spike",), lambda value: value > 1, "more than 1 (of the running mean)")
    _each(config, ("fraction",), lambda value: 0 < value <= 1, "more than 0, at most 1")
    _each(config, SHARES, lambda value: 0 <= value <= 1, "from 0 to 1")
    _each(config, WITHOUT_REPEATS, lambda value: len(set(value)) == len(value), "no value twice")
    _each(config, ("optim.betas",), lambda value: len(value) == 2 and all(0 <= b < 1 for b in value), "two below 1")
    _each(config, FOLDERS, lambda value: "/" not in value and not value.startswith("."), "a folder's name")


def _is_helper(value: object) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(one, str) for one in value))


def _each(config: Config, keys: tuple[str, ...], holds: Callable, expected: str) -> None:
    for key in keys:
        value: object = config
        for part in key.split("."):
            value = getattr(value, part)
        if value is not None and not holds(value):
            raise UserError(f"{key}={value} makes no sense", f"expected: {expected}")
