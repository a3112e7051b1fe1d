"""Choose a method before any training: hide overlapping tokens, let each method make them, compare."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from clp_transfer.clp import methods
from clp_transfer.clp.body import install, load_body
from clp_transfer.clp.job import AUTO, CALIBRATE, MethodConfig
from clp_transfer.clp.methods.problem import Problem
from clp_transfer.clp.models import Ingredients
from clp_transfer.clp.text import TargetText
from clp_transfer.clp.transfer import TransferRows, check_needs, compute_rows, make_problem, solve
from clp_transfer.errors import UserError

log = logging.getLogger(__name__)

VALIDATION_BYTES = 20_000
WINDOW = 256


@dataclass(frozen=True)
class Score:
    """How well a method does, by what is known before training.

    `cosine`: mean cosine of a hidden row and its reconstruction, both taken from the overlap's mean. `error`: squared
    distance over the hidden rows' squared distance from that mean: the mean itself has 1. Both None for a method
    that cannot make hidden rows. `bits_per_byte`: of the whole model on the validation text, None without one.
    """

    cosine: float | None
    error: float | None
    bits_per_byte: float | None = None


def choose(
    ingredients: Ingredients,
    method: MethodConfig,
    seed: int,
    *,
    text: TargetText | None = None,
    validation: TargetText | None = None,
    device: str = "cpu",
) -> tuple[MethodConfig, dict[str, Any], TransferRows | None]:
    """The best of `candidates` and why, with every candidate's scores, and what kept others from running.

    Its rows too, where they had to be made to be measured.

    With a validation text the one with the fewest bits per byte before training, else the one with the smallest error
    on hidden rows (`folds` parts of the overlap, each hidden once), averaged over the source's tables. Of equals the
    first. Raises UserError where no candidate can run.
    """
    candidates, skipped = _runnable(ingredients, method, text, validation)
    names = list(candidates)
    scores = dict(zip(names, held_out(ingredients, list(candidates.values()), seed, text, device), strict=True))
    rows = None
    if validation is not None:
        scores, rows = _measured(ingredients, candidates, scores, seed, text, validation, device)
        judged = {name: _or_infinity(score.bits_per_byte) for name, score in scores.items()}
        praise = "has the fewest bits per byte before training"
    else:
        judged = {name: _or_infinity(score.error) for name, score in scores.items()}
        praise = "reconstructs hidden overlapping rows with the smallest error"
    best = min(names, key=lambda name: judged[name])
    why = f"{best} {praise} ({judged[best]:.3f})"
    log.info("auto: %s", why)
    found = {name: asdict(score) for name, score in scores.items()}
    return candidates[best], {"chosen": best, "why": why, "scores": found, "skipped": skipped}, rows


def _runnable(
    ingredients: Ingredients, method: MethodConfig, text: TargetText | None, validation: TargetText | None
) -> tuple[dict[str, MethodConfig], dict[str, str]]:
    """The candidates that have what they need, by name, and for the others what they lack."""
    named = {name: replace(method, name=name) for name in method.candidates}
    lacks = {name: _lacks(candidate, ingredients, text, validation) for name, candidate in named.items()}
    skipped = {name: reason for name, reason in lacks.items() if reason is not None}
    for name, reason in skipped.items():
        log.info("auto: %s is left out: %s", name, reason)
    candidates = {name: candidate for name, candidate in named.items() if name not in skipped}
    if not candidates:
        raise UserError(
            f"of method.candidates={method.candidates} none can run here",
            "give helper= and text=, or add methods that need neither (fvt, mean)",
        )
    return candidates, skipped


def held_out(
    ingredients: Ingredients,
    candidates: Sequence[MethodConfig],
    seed: int,
    text: TargetText | None = None,
    device: str = "cpu",
) -> list[Score]:
    """Each candidate's score on hidden overlapping rows: k folds, drawn from the seed, the same for all.

    Raises UserError where there are too few overlapping tokens, or folds, to hide some and know others.
    """
    count = candidates[0].folds
    if min(count, len(ingredients.known)) < 2:
        raise UserError(
            f"method=auto cannot hide a part of {len(ingredients.known)} overlapping tokens in {count} folds",
            "set method.folds to 2 or more, or choose a method yourself",
        )
    found: list[list[Score]] = [[] for _ in candidates]
    for table in ingredients.tables():
        problem = make_problem(ingredients, table, replace(candidates[0], name=AUTO), seed, text, device)
        order = torch.randperm(len(problem.known), generator=torch.Generator().manual_seed(seed))
        folds = [part for part in order.tensor_split(count) if len(part)]
        for scores, candidate in zip(found, candidates, strict=True):
            if candidate.name in methods.METHODS:
                scores.append(_reconstruct(replace(problem, options=candidate), folds, seed))
    return [_mean(scores) for scores in found]


def _reconstruct(problem: Problem, folds: list[Tensor], seed: int) -> Score:
    """The score over all folds of one table."""
    cosines, error, spread = [], 0.0, 0.0
    for hidden in folds:
        part = replace(problem.hide(hidden), generator=torch.Generator().manual_seed(seed))
        centre = part.source.mean(dim=0)
        truth = problem.source[hidden] - centre
        made = solve(part).rows - centre
        cosines.append(cosine_similarity(made, truth, dim=1))
        error += float((made - truth).double().square().sum())
        spread += float(truth.double().square().sum())
    return Score(float(torch.cat(cosines).mean()), error / max(spread, 1e-30))


def _mean(scores: list[Score]) -> Score:
    """The mean over the tables."""
    if not scores:
        return Score(None, None)
    cosines, errors = [s.cosine or 0.0 for s in scores], [_or_infinity(s.error) for s in scores]
    return Score(sum(cosines) / len(cosines), sum(errors) / len(errors))


def _or_infinity(value: float | None) -> float:
    """For the comparison: what was not measured, or is no number, is never the smallest."""
    return value if value is not None and math.isfinite(value) else math.inf


def _measured(
    ingredients: Ingredients,
    candidates: dict[str, MethodConfig],
    scores: dict[str, Score],
    seed: int,
    text: TargetText | None,
    validation: TargetText,
    device: str,
) -> tuple[dict[str, Score], TransferRows | None]:
    """The scores with bits per byte on the first 20 kB of the validation text, in windows of 256 tokens.

    A candidate whose rows make the model overflow keeps None. Also the rows of the one with the fewest bits.
    """
    from clp_transfer.evaluate.perplexity import measure

    ids, documents = validation.head(VALIDATION_BYTES)
    body = load_body(ingredients.source, device, torch.float32)
    window = min(WINDOW, body.positions or WINDOW)
    end = int(ids[-1])  # what closes the documents, which in a pack need not be the tokenizer's end-of-sequence
    found: dict[str, Score] = {}
    fewest, best = math.inf, None
    for name, candidate in candidates.items():
        rows = compute_rows(ingredients, candidate, seed, text=text, device=device)
        install(body.model, rows.input, rows.head, rows.head_bias)
        try:
            bits = measure(body.model, ids, documents, eos_id=end, window=window, batch_size=16).bits_per_byte
        except UserError as error:  # the ids fit and the body is sound, so it is the rows
            log.warning("auto: %s cannot be measured: %s", name, error.problem)
            found[name] = scores[name]
            continue
        found[name] = replace(scores[name], bits_per_byte=bits)
        if bits < fewest:
            fewest, best = bits, rows
        log.info("auto: %s, %.3f bits per byte, error on hidden rows %s", name, bits, scores[name].error)
    return found, best


def _lacks(
    candidate: MethodConfig, ingredients: Ingredients, text: TargetText | None, validation: TargetText | None
) -> str | None:
    """What keeps a candidate from running; calibrate hides no rows, so only a validation text can judge it."""
    try:
        check_needs(ingredients, candidate, text)
    except UserError as error:
        return error.problem
    return "it can only be judged by a validation text" if candidate.name == CALIBRATE and validation is None else None
