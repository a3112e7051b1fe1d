"""Make the target's tables: rows copied for overlapping tokens, made by a method for the others."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from clp_transfer.clp import methods
from clp_transfer.clp.bias import WithBias
from clp_transfer.clp.job import AUTO, CALIBRATE, NEEDS_HELPER, TRANSFERS, MethodConfig
from clp_transfer.clp.methods.norms import calibrated
from clp_transfer.clp.methods.problem import Origins, Problem, Side, Solution
from clp_transfer.clp.models import Ingredients
from clp_transfer.clp.text import TargetText
from clp_transfer.errors import UserError

log = logging.getLogger(__name__)
ROWS = 1024  # that are converted at once: less than new memory for all of them would cost


@dataclass(frozen=True)
class TransferRows:
    """The target's tables, in the source's dtype.

    `input`: [V_t, d_s]. `head`: the same for an untied head, else None. `head_bias`: [V_t], where the head has one.
    `report`: what was done. `origins`: for each table a function of k that names, for every missing token, the k
    source tokens with the largest weights; None where the rows are no combination of source rows.
    """

    input: Tensor
    head: Tensor | None
    head_bias: Tensor | None
    report: dict[str, Any]
    origins: dict[str, Callable[[int], Origins] | None]


def compute_rows(
    ingredients: Ingredients,
    method: MethodConfig,
    seed: int = 1,
    *,
    text: TargetText | None = None,
    validation: TargetText | None = None,
    device: str = "cpu",
) -> TransferRows:
    """All rows of the target's tables.

    An untied head gets a transfer of its own, in the space of the helper's head where that is untied too. With the
    source's own vocabulary nothing is missing, and the tables are the source's, padding included. Raises UserError
    for models that do not fit each other, for damaged tables, and for a method that lacks what it needs.
    """
    method = method.with_defaults()
    check_needs(ingredients, method, text)
    if method.name == AUTO:
        from clp_transfer.clp.auto import choose

        chosen, why, found = choose(ingredients, method, seed, text=text, validation=validation, device=device)
        rows = found or compute_rows(ingredients, chosen, seed, text=text, device=device)
        return replace(rows, report=rows.report | {"auto": why})
    if method.name == CALIBRATE:
        from clp_transfer.clp.calibrate import calibrate

        start = replace(method, name=method.start)
        rows = compute_rows(ingredients, start, seed, text=text, validation=validation, device=device)
        assert text is not None  # check_needs
        if ingredients.overlap.missing:
            rows = calibrate(ingredients, rows, method, seed, text, device)
    else:
        rows = _rows(ingredients, method, seed, text, device)
    if text is None or not method.reads_text:
        return rows
    return replace(rows, report=rows.report | {"text": text.sizes()})


def check_needs(ingredients: Ingredients, method: MethodConfig, text: TargetText | None) -> None:
    """Raise UserError where a method is unknown, or lacks a helper or text that it needs."""
    _check_names(method)
    if method.name in NEEDS_HELPER and not ingredients.helpers and not _pieces_only(method):
        raise UserError(
            f"method={method.name} needs a helper model, and none is given",
            "set helper=…, or choose a method without one (fvt, mean, gaussian, random)",
        )
    if text is None and (method.name in ("focus", CALIBRATE) or method.reads_counts):
        raise UserError(
            f"method={method.name} needs target-language text" + (" for its counts" if method.reads_counts else ""),
            "set text=… (a .txt or .jsonl file, or the prefix of a pack that prepare.py made)",
        )


def _check_names(method: MethodConfig) -> None:
    """Raise UserError for a method that there is not, alone or in what auto and calibrate are to use."""
    if method.name == methods.SCRATCH:
        raise UserError(
            "method=scratch keeps nothing of the source, so there are no rows to transfer",
            f"make it on the command line (clp.py method=scratch), or choose from {', '.join(TRANSFERS)}",
        )
    # Each may use the other, but not so that they go round in a circle.
    usable = {
        "method": (list(TRANSFERS), [method.name]),
        "method.start": ([*methods.METHODS, AUTO], [method.start] if method.name == CALIBRATE else []),
        "method.candidates": (
            [*methods.METHODS, *([] if method.start == AUTO else [CALIBRATE])],
            method.candidates if method.name == AUTO else [],
        ),
    }
    for key, (known, named) in usable.items():
        if unknown := [name for name in named if name not in known]:
            raise UserError(f"{key}={', '.join(unknown)} is unknown", f"choose from {', '.join(known)}")


def _pieces_only(method: MethodConfig) -> bool:
    return method.name == "ridge" and method.features == ["pieces"]


def _rows(
    ingredients: Ingredients, method: MethodConfig, seed: int, text: TargetText | None, device: str
) -> TransferRows:
    """The rows of a method that works table by table."""
    overlap, layout = ingredients.overlap, ingredients.source.layout
    report: dict[str, Any] = {"overlap": overlap.as_dict(), "diagnostics": {}, "warnings": [], "norms": {}}
    report["seconds"] = {}
    finished: dict[str, Tensor] = {}
    origins: dict[str, Callable[[int], Origins] | None] = {}
    for table in ingredients.tables():
        started = time.perf_counter()
        stored = ingredients.source.table(getattr(layout, table))
        if overlap.identical:
            finished[table], origins[table] = stored.all(), None
            continue
        problem = make_problem(ingredients, table, method, seed, text, device)
        solution = solve(problem)
        made, origins[table] = solution.rows.cpu(), solution.origins
        finished[table] = _assemble(ingredients, problem, stored.dtype, made)
        prefix = "" if table == "input" else f"{table}_"
        report["diagnostics"] |= {f"{prefix}{name}": value for name, value in solution.diagnostics.items()}
        report["warnings"] += solution.warnings
        report["norms"] |= _norms(prefix, problem, made)
        report["seconds"][table] = round(time.perf_counter() - started, 3)
    for warning in report["warnings"]:
        log.warning("%s: %s", method.name, warning)
    bias = _take_bias(ingredients, finished)
    return TransferRows(finished["input"], finished.get("head"), bias, report, origins)


def make_problem(
    ingredients: Ingredients,
    table: str,
    method: MethodConfig,
    seed: int,
    text: TargetText | None = None,
    device: str = "cpu",
) -> Problem:
    """Line one table up by token: what is known of it, and the tokens to make."""
    known, missing = ingredients.known, ingredients.overlap.missing
    # A method without a helper is not to be stopped by a damaged one.
    reads = method.name in NEEDS_HELPER or method.name == AUTO
    helper = (ingredients.helper_rows(table) if reads else torch.zeros(ingredients.target.size, 0)).to(device)
    rows = _source_table(ingredients, table)
    ids = torch.tensor([ingredients.overlap.shared[index] for index in known], dtype=torch.long)
    counts = text.counts.to(device) if text is not None and method.reads_text else None

    def side(chosen: list[int], segment: Callable[[], list[list[int]]]) -> Side:
        index = torch.tensor(chosen, dtype=torch.long, device=device)
        keys = ingredients.keys(chosen)
        return Side(helper[index], keys, segment, None if counts is None else counts[index])

    return Problem(
        known=side(known, lambda: ingredients.known_pieces),
        wanted=side(missing, lambda: ingredients.missing_pieces),
        source=rows.rows(ids).to(device),
        source_ids=ids.to(device),
        table=rows,
        options=method,
        generator=torch.Generator().manual_seed(seed),
        text=None if text is None else text.documents,
    )


def _source_table(ingredients: Ingredients, table: str) -> Any:
    """The source's table, with the head's bias as its last column where it has one."""
    source = ingredients.source
    rows = source.table(getattr(source.layout, table))
    if source.layout.head_bias is not None and table == _bias_table(ingredients):
        return WithBias(rows, source.weights.read(source.layout.head_bias))
    return rows


def _bias_table(ingredients: Ingredients) -> str:
    """The table that a head's bias goes with: the head's own, or the input that serves as head."""
    return ingredients.tables()[-1]


def solve(problem: Problem) -> Solution:
    """The method's rows, with their norms set where that is asked for, and finite."""
    method = problem.options
    if len(problem.wanted) == 0:
        return Solution(problem.source[:0])
    solution = methods.get(method.name)(problem)
    if method.norms == "source":
        solution = calibrated(solution, problem)
    rows = solution.rows
    if math.isfinite(float(rows.sum())):  # it carries every NaN and infinity, and needs no table of its own
        return solution
    broken = (~torch.isfinite(rows)).any(dim=1)
    if not bool(broken.any()):
        return solution
    rows = torch.where(broken[:, None], problem.source.mean(dim=0), rows)
    note = f"{int(broken.sum()):,} new rows were not finite and became the mean of the overlap"
    return replace(solution, rows=rows, warnings=[*solution.warnings, note])


def _assemble(ingredients: Ingredients, problem: Problem, dtype: torch.dtype, made: Tensor) -> Tensor:
    """The target's table in the source's dtype, [V_t, width]: copies, made rows, the mean for an id without a token."""
    overlap, known = ingredients.overlap, ingredients.known
    finished = torch.zeros(overlap.size, problem.table.width, dtype=dtype)
    finished[torch.tensor(known, dtype=torch.long)] = problem.source.to("cpu", dtype)
    # Special tokens that took no part in the method.
    others = sorted(overlap.shared.keys() - set(known))
    ids = torch.tensor([overlap.shared[index] for index in others], dtype=torch.long)
    finished[torch.tensor(others, dtype=torch.long)] = problem.table.rows(ids).to(dtype)
    blocks = (each.split(ROWS) for each in (torch.tensor(overlap.missing, dtype=torch.long), made))
    for places, rows in zip(*blocks, strict=True):
        finished[places] = rows.to(dtype)
    if overlap.gaps:
        filled = torch.tensor([*overlap.shared, *overlap.missing], dtype=torch.long)
        finished[torch.tensor(overlap.gaps, dtype=torch.long)] = mean_row(finished[filled])
    return finished


def mean_row(table: Tensor) -> Tensor:
    """The mean row of a table, for rows that no token uses: a zero row could win the softmax, a mean one does not."""
    return table.float().mean(dim=0).to(table.dtype)


def _take_bias(ingredients: Ingredients, finished: dict[str, Tensor]) -> Tensor | None:
    """Take the head's bias, where there is one, out of the last column of its table."""
    source, table = ingredients.source, _bias_table(ingredients)
    if source.layout.head_bias is None:
        return None
    if ingredients.overlap.identical:
        return source.weights.read(source.layout.head_bias)
    whole = finished[table]
    finished[table] = whole[:, :-1].contiguous()
    return whole[:, -1].contiguous()


def _norms(prefix: str, problem: Problem, made: Tensor) -> dict[str, float]:
    """Mean Euclidean norms of the overlap's rows and of the made ones."""
    parts = {"overlap_mean": problem.source, "new_mean": made}
    return {prefix + name: float(rows.norm(dim=1).mean()) for name, rows in parts.items() if len(rows)}
