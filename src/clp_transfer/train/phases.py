"""What learns when: embedding tuning first, then everything, the same on every rank and under every ZeRO stage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet
import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from clp_transfer.clp.provenance import COPIED, NAME, SPECIAL
from clp_transfer.errors import UserError
from clp_transfer.train.job import PhasesConfig
from clp_transfer.train.optimizer import embeddings, restart, set_rates, still
from clp_transfer.train.schedule import BODY, EMBEDDINGS, Course, rates


def new_rows(init: Path) -> Tensor | None:
    """Which rows of a starting model its transfer made, bool [vocabulary]; None where it has no provenance.

    Rows copied from the source model are old; everything else is new. It holds for the input table and for the head.
    """
    if not (init / NAME).is_file():
        return None
    made = parquet.read_table(init / NAME, columns=["made"])["made"].to_pylist()
    return torch.tensor([one not in (COPIED, SPECIAL) for one in made])


class Phases:
    """Holds back, in the first phase, what must not learn: the body, and with `new_rows_only` the tables' old rows.

    Nothing changes in what is wrapped: a parameter that starts to need a gradient after DDP or ZeRO has been set up is
    not in their buckets, and ranks would part silently. Instead hooks set gradients to zero before they are reduced, so
    what is clipped sees only what learns, Adam's moments stay zero, and with rates and decay of zero a frozen number
    stays the same bit for bit. The price: the body's weight gradients (a third of its arithmetic) and their reduction
    are computed and thrown away. `alone` saves both by not asking for these gradients, with bit-identical results; it
    is for one process without DeepSpeed.

    A table of which some rows stand still has no weight decay in the first phase. After it the body's step counts start
    at 0 again, as if Adam had just met it; old rows keep their table's.
    """

    def __init__(
        self, model: nn.Module, config: PhasesConfig, course: Course, new_rows: Tensor | None, *, alone: bool = False
    ) -> None:
        """`model` not yet wrapped; raises UserError where it does not have what its phases need."""
        self.course, self.alone = course, alone
        self.frozen = self.masked = False
        self.tables = embeddings(model)
        mine = set(self.tables)
        self.body = [p for p in model.parameters() if p.requires_grad and p not in mine]
        self._all = [*self.tables, *self.body]
        self._masks = config.new_rows_only and course.embedding_steps > 0
        self._old = self._old_rows(new_rows) if self._masks else torch.zeros(0, dtype=torch.bool)
        if course.embedding_steps and not self.tables:
            raise UserError("phases.share is above 0, but the model has no embedding table", "set phases.share to 0")
        if course.frozen(0) and not alone:
            for parameter in self.body:
                parameter.register_hook(self._freeze)
        if self._masks:
            for parameter in self.tables:
                parameter.register_hook(self._mask)

    def _old_rows(self, new: Tensor | None) -> Tensor:
        if new is None:
            raise UserError(
                f"phases.new_rows_only needs {NAME} next to the starting model",
                "start from a model made with clp.py, or set phases.new_rows_only to false",
            )
        if fewer := [table.shape[0] for table in self.tables if table.shape[0] < len(new)]:
            raise UserError(f"{NAME} has {len(new)} rows, the model's table {fewer[0]}", "make the model again")
        if not new.any():
            raise UserError("phases.new_rows_only: no row is new", "set phases.new_rows_only to false")
        return ~new

    @property
    def learning(self) -> list[nn.Parameter]:
        """The parameters that learn in the step that has begun: those of which the gradient's norm is clipped."""
        return self.tables if self.frozen else self._all

    def begin(self, step: int, optimizer: Any) -> dict[str, float]:
        """Set what learns in this step (from 0), and how fast; returns the rate of each group.

        Depends on the step alone, so a resumed run begins like an uninterrupted one.
        """
        first, boundary = step < self.course.embedding_steps, self.course.embedding_steps
        self.frozen, self.masked = self.course.frozen(step), first and self._masks
        if self.alone and boundary:
            for parameter in self.body:
                parameter.requires_grad_(not self.frozen)
        found = rates(step, self.course)
        set_rates(optimizer, found)
        still(optimizer, [BODY] * self.frozen + [EMBEDDINGS] * self.masked)
        if boundary and step == boundary and self.course.frozen(step - 1):
            restart(optimizer, BODY)
        return found

    def _freeze(self, gradient: Tensor) -> Tensor | None:
        # Not times zero: that would keep what is not finite.
        return torch.zeros_like(gradient) if self.frozen else None

    def _mask(self, gradient: Tensor) -> Tensor | None:
        if not self.masked:
            return None
        rows = gradient.shape[0]
        if len(self._old) != rows or self._old.device != gradient.device:  # rows that pad the vocabulary are new
            self._old = pad(self._old, (0, rows - len(self._old))).to(gradient.device)
        return gradient.masked_fill(self._old.view(-1, *[1] * (gradient.ndim - 1)), 0)
