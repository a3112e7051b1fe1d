"""Train the new rows alone, for a minute or two, by way of a small map that they all share."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from clp_transfer.clp.body import Body, load_body
from clp_transfer.clp.job import MethodConfig
from clp_transfer.clp.models import Ingredients
from clp_transfer.clp.text import TargetText
from clp_transfer.errors import UserError

if TYPE_CHECKING:
    from clp_transfer.clp.transfer import TransferRows

log = logging.getLogger(__name__)

# The most of the helper's directions that the map uses; it keeps the map small for a wide helper.
DIRECTIONS = 256
WARMUP = 10
FINAL_RATE = 0.05
BETAS = (0.9, 0.99)


@dataclass(frozen=True)
class _Table:
    """One table in training: its parameter's name, its fixed rows, where the new ones go, and what they start as.

    `shift`: A, the map that is trained.
    """

    name: str
    fixed: Tensor
    missing: Tensor
    start: Tensor
    shift: Tensor

    def rows(self, features: Tensor) -> Tensor:
        """The new rows, float32 [missing, width]."""
        return self.start + features @ self.shift

    def whole(self, features: Tensor, dtype: torch.dtype) -> Tensor:
        """The table, [V_t, width]; gradients reach `shift` alone."""
        return self.fixed.index_put((self.missing,), self.rows(features)).to(dtype)


def calibrate(
    ingredients: Ingredients, start: TransferRows, method: MethodConfig, seed: int, text: TargetText, device: str
) -> TransferRows:
    """New rows E_t = E⁰_t + φ_t A, with A trained on `tokens` tokens of text; everything else stays as it is.

    E⁰ are the rows of the `start` method. φ_t is the helper's row of the token, whitened over the new tokens (at most
    256 directions), its log count in the text and a constant, over the root of their number. A (one per table)
    minimises the model's next-token loss by Adam; its rate rises over 10 steps, stays until 30% of them and falls in a
    line to 5%. All new rows share A, so rows of tokens that the text lacks move too; trained one by one, the model was
    measured to end worse. Ours; what it trains is small enough for two cores (SmolLM2-135M, 60,000 tokens: 67 to
    142 seconds, by what else the machine did).

    A head's bias keeps what the start method made of it. The one method that builds the source's body (bfloat16 where
    the processor multiplies that fast). Raises UserError for a text shorter than one window, for windows longer than
    the source's positions, and where the loss or a row is not finite.
    """
    began = time.perf_counter()
    _check_window(text, method)
    body = load_body(ingredients.source, device)
    if body.positions is not None and method.window > body.positions:
        raise UserError(
            f"method.window={method.window} is longer than the source's {body.positions} positions",
            f"set method.window to {body.positions} or less",
        )
    features = _features(ingredients, text).to(device)
    tables = _tables(ingredients, start, features.shape[1], device)
    fixed = {}
    if start.head_bias is not None:
        fixed[body.names[str(ingredients.source.layout.head_bias)]] = start.head_bias.to(device, body.dtype)
    losses = _train(body, tables, fixed, features, _windows(text, method, seed), method)
    return _finish(ingredients, start, tables, features, losses, round(time.perf_counter() - began, 1))


def _finish(
    ingredients: Ingredients,
    start: TransferRows,
    tables: dict[str, _Table],
    features: Tensor,
    losses: list[float],
    seconds: float,
) -> TransferRows:
    """The start's tables with the trained rows in place of the new ones, and its report brought up to date."""
    missing = torch.tensor(ingredients.overlap.missing)
    made = {name: table.rows(features).detach().cpu() for name, table in tables.items()}
    finished, norms = {}, {}
    for name, old in (("input", start.input), ("head", start.head)):
        if old is not None:
            if not bool(torch.isfinite(made[name]).all()):
                raise UserError(f"calibrate made rows of the {name} that are not finite", "set method.rate lower")
            finished[name] = old.clone()
            finished[name][missing] = made[name].to(old.dtype)
            norms["new_mean" if name == "input" else f"{name}_new_mean"] = float(made[name].norm(dim=1).mean())
    trained = {"loss_first": losses[0], "loss_last": float(np.mean(losses[-10:])), "steps": len(losses)}
    report = start.report | {
        "diagnostics": start.report["diagnostics"] | trained,
        "norms": start.report["norms"] | norms,
        "seconds": start.report["seconds"] | {"calibrate": seconds},
    }
    origins = dict.fromkeys(start.origins)
    return replace(start, input=finished["input"], head=finished.get("head"), report=report, origins=origins)


def _features(ingredients: Ingredients, text: TargetText) -> Tensor:
    """φ, float32 [missing, width]."""
    missing = torch.tensor(ingredients.overlap.missing)
    rows = ingredients.helper_rows("input")
    centred = (rows[missing] - rows[missing].mean(dim=0)).double()
    values, vectors = torch.linalg.eigh(centred.T @ centred / len(missing))
    kept = values > values.max().clamp(min=1e-30) * 1e-6
    white = centred @ (vectors[:, kept] / values[kept].sqrt())[:, -DIRECTIONS:]
    counts = (text.counts[missing] + 1).double().log()
    counts = (counts - counts.mean()) / counts.std(correction=0).clamp(min=1e-6)
    features = torch.cat([white, counts[:, None], torch.ones(len(missing), 1, dtype=torch.float64)], dim=1)
    return (features / features.shape[1] ** 0.5).float()


def _tables(ingredients: Ingredients, start: TransferRows, width: int, device: str) -> dict[str, _Table]:
    """`input`, and `head` where there is one of its own, each with a map that changes nothing yet."""
    missing = torch.tensor(ingredients.overlap.missing, device=device)
    found = {}
    for table in ingredients.tables():
        whole = start.input if table == "input" else start.head
        assert whole is not None
        fixed = whole.float().to(device)
        shift = torch.zeros(width, fixed.shape[1], device=device, requires_grad=True)
        name = getattr(ingredients.source.layout, table)
        found[table] = _Table(name, fixed, missing, fixed[missing], shift)
    return found


def _check_window(text: TargetText, method: MethodConfig) -> None:
    if len(text.ids) <= method.window:
        raise UserError(
            f"{text.path} has {len(text.ids)} tokens, too few for one window of {method.window}",
            "give more text, or set method.window lower",
        )


def _steps(method: MethodConfig) -> int:
    return max(method.tokens // (method.batch * method.window), 1)


def _windows(text: TargetText, method: MethodConfig, seed: int) -> Iterator[Tensor]:
    """Batches of ids, int64 [batch, window + 1], from random places; together `tokens` predicted tokens."""
    ids, draw = text.ids, np.random.default_rng(seed)
    for _ in range(_steps(method)):
        places = draw.integers(0, len(ids) - method.window, size=method.batch)
        yield torch.stack([torch.from_numpy(ids[p : p + method.window + 1].astype(np.int64)) for p in places])


def _train(
    body: Body,
    tables: dict[str, _Table],
    fixed: dict[str, Tensor],
    features: Tensor,
    batches: Iterator[Tensor],
    method: MethodConfig,
) -> list[float]:
    """Train every table's `shift`, other parameters being `fixed`; returns the loss of each step, nats per token."""
    steps = _steps(method)
    groups = [{"params": [table.shift], "lr": method.rate * float(table.fixed.std())} for table in tables.values()]
    optimiser = torch.optim.Adam(groups, betas=BETAS)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _rate(step, steps))
    losses: list[float] = []
    for ids in batches:
        ids = ids.to(features.device)
        replaced = {body.names[table.name]: table.whole(features, body.dtype) for table in tables.values()}
        inputs = {"input_ids": ids[:, :-1], "use_cache": False}
        logits = functional_call(body.model, fixed | replaced, kwargs=inputs).logits
        loss = cross_entropy(logits.flatten(0, 1).float(), ids[:, 1:].flatten())
        losses.append(float(loss.detach()))
        if not np.isfinite(losses[-1]):
            remedy = "set method.rate lower" if len(losses) > 1 else "choose another method.start"
            raise UserError(f"the loss is not finite at step {len(losses)}", remedy)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if len(losses) % 20 == 0:
            log.info("calibrate: step %d of %d, loss %.3f", len(losses), steps, losses[-1])
    return losses


def _rate(step: int, steps: int) -> float:
    """The share of the peak rate: up over the warm-up, flat until 30%, then down in a line."""
    falling = max(0.0, (step / steps - 0.3) / 0.7)
    return min(1.0, (step + 1) / WARMUP) * (1 - (1 - FINAL_RATE) * falling)
