"""The library in one call: `clp_transfer.transfer(source, helper, method="ridge").save("out")`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

import torch

from clp_transfer.clp.job import MethodConfig
from clp_transfer.clp.limits import check_ranges
from clp_transfer.clp.memory import give_back
from clp_transfer.clp.models import Ingredients
from clp_transfer.clp.result import TransferResult
from clp_transfer.clp.text import TargetText
from clp_transfer.clp.transfer import compute_rows
from clp_transfer.errors import UserError


def transfer(
    source: str | Path,
    helper: str | Path | Sequence[str | Path] | None = None,
    method: str | MethodConfig = "clp",
    *,
    tokenizer: str | Path | None = None,
    text: str | Path | None = None,
    validation: str | Path | None = None,
    seed: int = 1,
    language: str = "de",
    device: str = "auto",
    revision: str | None = None,
    trust_remote_code: bool = False,
    cache: Path | None = None,
    **options: Any,
) -> TransferResult:
    """Make a target model's tables from a source and a helper; nothing is written until `save`.

    `source`, `helper`: model folders, GGUF files or hub ids; several helpers of one tokenizer are joined. The target's
    tokenizer is the helper's, or `tokenizer` for the methods without a helper. `text`: target-language text (a `.txt`
    or `.jsonl` file, or a pack's prefix) for focus, calibrate and frequency weights; `validation`: the same for auto.
    `device`: `auto` is a GPU where there is one.
    `options` are those of `MethodConfig`, e.g. `top_k=5`. `revision` is the source's on the hub. Raises UserError for
    everything that the caller can mend.
    """
    device = chosen_device(device)
    chosen = method_config(method, options)
    where: dict[str, Any] = {"trust_remote_code": trust_remote_code, "cache": cache}
    ingredients = Ingredients.open(source, helper, tokenizer, revision=revision, **where)
    return transfer_opened(
        ingredients, chosen, text=text, validation=validation, seed=seed, language=language, device=device
    )


def transfer_opened(
    ingredients: Ingredients,
    method: MethodConfig,
    *,
    text: str | Path | None,
    validation: str | Path | None,
    seed: int,
    language: str,
    device: str,
) -> TransferResult:
    """`transfer` of models that are open already, by a method whose options are known to be right."""
    rows = compute_rows(
        ingredients,
        method,
        seed,
        text=TargetText.of(text, ingredients),
        validation=TargetText.of(validation, ingredients),
        device=device,
    )
    give_back()
    return TransferResult(ingredients, method, rows, seed, language)


def method_config(method: str | MethodConfig, options: dict[str, Any]) -> MethodConfig:
    """A method with options; raises UserError for an option that there is not, of a wrong type or out of range."""
    known = [field.name for field in fields(MethodConfig)]
    unknown = sorted(set(options) - set(known[1:]))
    if unknown:
        raise UserError(f"no method option is called {', '.join(unknown)}", f"there are {', '.join(known[1:])}")
    given = replace(method, **options) if isinstance(method, MethodConfig) else MethodConfig(method, **options)
    chosen = given.with_defaults()
    for name, hint in get_type_hints(MethodConfig).items():
        value = getattr(chosen, name)
        kinds = _kinds(hint)
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            expected = " or ".join("null" if kind is NoneType else kind.__name__ for kind in kinds)
            raise UserError(f"method.{name}={value!r} is of a wrong type", f"expected: {expected}")
    check_ranges(chosen)
    return chosen


def _kinds(hint: Any) -> tuple[type, ...]:
    """The types of values that a type hint allows."""
    parts = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    kinds = tuple(get_origin(part) or part for part in parts)
    return (*kinds, int) if float in kinds else kinds


def chosen_device(name: str) -> str:
    """The device to compute on; raises UserError for one that this machine or this torch does not have."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"device={name} cannot be used: {reason}", "set cpu, or auto to have it chosen") from error
    return name
