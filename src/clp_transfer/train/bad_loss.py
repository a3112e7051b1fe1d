"""What to do about a loss that is not finite, or far above what it has been: stop the run, or skip the step."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from clp_transfer.errors import UserError

log = logging.getLogger(__name__)

DECAY = 0.95  # of the running mean: about the last 20 steps
WARM = 20  # steps before a loss can be a spike


@dataclass
class Seen:
    """What the policy remembers; a checkpoint keeps it, so that a resumed run decides the same."""

    mean: float = 0.0
    good: int = 0
    skipped: int = 0
    in_a_row: int = 0


class BadLoss:
    """The policy: `action` is `stop` or `skip`; `spike` times the running mean is bad, null knows no spikes.

    `checkpoint` gives the last good checkpoint, for the message. More than `most` skipped steps in a row stop the run
    all the same.
    """

    def __init__(
        self,
        action: str = "stop",
        spike: float | None = None,
        checkpoint: Callable[[], object] = lambda: None,
        most: int = 10,
    ) -> None:
        self.action, self.spike, self.checkpoint, self.most = action, spike, checkpoint, most
        self.seen = Seen()

    def check(self, loss: float, step: int, norm: float | None = None) -> str:
        """`ok`, or `skip`: then the caller drops the step's gradients. Raises UserError where the run must stop.

        `loss`: nats, the mean over all ranks, so that they decide the same; `step` counts from 1. `norm`: of the
        gradients, where it is known before the update: one that is not finite would spoil the weights, and the next
        checkpoint with them, while the loss still looks good.
        """
        seen = self.seen
        flaw = self._flaw(loss)
        if flaw is None and norm is not None and not math.isfinite(norm):
            flaw = f", but the norm of its gradients is {norm:g}"
        if flaw is None:
            # The plain mean at first: an exponential one would begin at the first step's high loss.
            weight = max(1 - DECAY, 1 / (seen.good + 1))
            seen.mean += weight * (loss - seen.mean)
            seen.good, seen.in_a_row = seen.good + 1, 0
            return "ok"
        if self.action == "stop" or seen.in_a_row >= self.most:
            after = f", after {seen.in_a_row} skipped steps in a row" if seen.in_a_row else ""
            raise UserError(f"the loss is {loss:g} at step {step}{flaw}{after}", self._remedy())
        seen.skipped, seen.in_a_row = seen.skipped + 1, seen.in_a_row + 1
        log.warning("step %d is skipped: its loss is %g%s (%d skipped so far)", step, loss, flaw, seen.skipped)
        return "skip"

    def state(self) -> dict[str, Any]:
        """What to keep in a checkpoint, as JSON values."""
        return asdict(self.seen)

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave; an empty one begins anew."""
        self.seen = Seen(**state)

    def _flaw(self, loss: float) -> str | None:
        """None for a good loss, else what to add to the message."""
        if not math.isfinite(loss):
            return ""
        high = self.spike is not None and self.seen.good >= WARM and loss > self.spike * self.seen.mean
        return f", more than {self.spike:g} times its running mean of {self.seen.mean:g}" if high else None

    def _remedy(self) -> str:
        last = self.checkpoint()
        from_here = "" if self.action == "skip" else "go on and pass over such steps with train.on_bad_loss=skip, or "
        advice = f"{from_here}begin anew with a lower optim.lr (variant=… keeps this run)"
        return f"{advice}; the last good checkpoint is {last}" if last else f"{advice}; there is no checkpoint yet"
