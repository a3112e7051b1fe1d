"""Which sequences each step sees: fixed by the seed and the step alone, not by the ranks and not by the phases."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from math import ceil

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clp_transfer.errors import UserError
from clp_transfer.packed import END, PackedCorpus
from clp_transfer.train.job import BudgetConfig, PhasesConfig


@dataclass(frozen=True)
class Batches:
    """Batches of sequences cut from a pack; step s is computed, not iterated to, so resuming costs nothing.

    The run takes the sequences one after the other from a new shuffle for every epoch. A phase's batch size decides how
    many a step takes, not which come next. `sequences`, `micro_batch` and `accumulation` are those of the second phase,
    which is the whole run where there are no phases.
    """

    corpus: PackedCorpus
    budget: BudgetConfig
    seed: int
    rank: int = 0
    world_size: int = 1
    phases: PhasesConfig = field(default_factory=PhasesConfig)

    def __post_init__(self) -> None:
        if self.budget.steps is not None and self.budget.epochs is not None:
            raise UserError(
                f"budget.steps={self.budget.steps} and budget.epochs={self.budget.epochs} are both set",
                "set one of them to null",
            )
        self._check("budget.batch_tokens", self.budget.batch_tokens)
        if self.phases.share > 0 and self.phases.batch_tokens is not None:
            self._check("phases.batch_tokens", self.phases.batch_tokens)

    def _check(self, key: str, batch_tokens: int) -> None:
        """Raise UserError where a batch is no whole number of sequences on every rank, or longer than the pack."""
        length = self.budget.sequence_length
        sequences, rest = divmod(batch_tokens, length)
        if sequences == 0 or rest:
            raise UserError(
                f"{key}={batch_tokens} is not a multiple of budget.sequence_length={length}", "make it a multiple"
            )
        if sequences % self.world_size:
            raise UserError(
                f"{sequences} sequences a step cannot be shared by {self.world_size} ranks",
                f"make {key} / budget.sequence_length a multiple of the number of ranks",
            )
        if self.available < sequences:
            raise UserError(
                f"{self.corpus.prefix} has {len(self.corpus.tokens):,} tokens: not one step of {batch_tokens:,} tokens",
                f"give more text or lower {key}",
            )

    @property
    def sequences(self) -> int:
        """Sequences a step of the second phase, over all ranks."""
        return self.budget.batch_tokens // self.budget.sequence_length

    @property
    def available(self) -> int:
        """Whole sequences in the pack (each needs one token more than its length, for the last target)."""
        return (len(self.corpus.tokens) - 1) // self.budget.sequence_length

    @property
    def micro_batch(self) -> int:
        """Sequences that a rank computes at once in the second phase."""
        return self._micro_batch(self.sequences)

    @property
    def accumulation(self) -> int:
        """Micro-batches that a rank computes in each step of the second phase."""
        return self.sequences // self.world_size // self.micro_batch

    @property
    def steps(self) -> int:
        """N: the updates that spend the budget."""
        return self._course[0]

    @property
    def embedding_steps(self) -> int:
        """E: the updates of the first phase, 0 to N; update E is the first of the second phase."""
        return self._course[1]

    @property
    def tokens(self) -> int:
        """Tokens of the whole run."""
        return self.tokens_at(self.steps)

    @cached_property
    def _course(self) -> tuple[int, int]:
        """N and E. With one batch size E = ceil(N · share); with two the share is of the tokens."""
        share, small = exact(self.phases.share), self.phases.batch_tokens
        batch = self.budget.batch_tokens
        if small is None or small == batch:
            steps = self.budget.steps or max(1, ceil(self._wanted_tokens / batch))
            return steps, ceil(steps * share)
        if self.budget.steps is not None:
            # E · small tokens are `share` of E · small + (N - E) · batch.
            return self.budget.steps, ceil(share * self.budget.steps * batch / (small + share * (batch - small)))
        first = ceil(share * self._wanted_tokens / small)
        rest = max(0, ceil((self._wanted_tokens - first * small) / batch))
        return max(1, first + rest), first

    @property
    def _wanted_tokens(self) -> Fraction:
        """The budget in tokens, where it is not in steps."""
        if self.budget.epochs is None:
            return Fraction(self.budget.tokens)
        return exact(self.budget.epochs) * self.available * self.budget.sequence_length

    def sequences_at(self, step: int) -> int:
        """Sequences that the step takes, over all ranks."""
        if step < self.embedding_steps and self.phases.batch_tokens is not None:
            return self.phases.batch_tokens // self.budget.sequence_length
        return self.sequences

    def first_sequence(self, step: int) -> int:
        """How many sequences the steps before this one have taken."""
        early = min(step, self.embedding_steps)
        return early * self.sequences_at(0) + (step - early) * self.sequences

    def tokens_at(self, step: int) -> int:
        """Tokens seen before the step; `tokens_at(steps)` is the whole run's."""
        return self.first_sequence(step) * self.budget.sequence_length

    def micro_batch_at(self, step: int) -> int:
        """Sequences that a rank computes at once in this step."""
        return self._micro_batch(self.sequences_at(step))

    def accumulation_at(self, step: int) -> int:
        """Micro-batches that a rank computes in this step."""
        return self.sequences_at(step) // self.world_size // self.micro_batch_at(step)

    def _micro_batch(self, sequences: int) -> int:
        """The largest share of a rank's part of the batch that the config allows."""
        mine = sequences // self.world_size
        return max(size for size in range(1, mine + 1) if mine % size == 0 and size <= max(1, self.budget.micro_batch))

    def indices(self, step: int) -> list[int]:
        """The step's sequences over all ranks: consecutive entries of a new shuffle for every epoch."""
        position = self.first_sequence(step)
        end = position + self.sequences_at(step)
        chosen: list[int] = []
        while position < end:
            epoch, offset = divmod(position, self.available)
            chosen += self._order(epoch)[offset : offset + end - position].tolist()
            position = self.first_sequence(step) + len(chosen)
        return chosen

    def _order(self, epoch: int) -> NDArray[np.int64]:
        """The epoch's shuffle. A step may straddle two epochs, and no more: it is no longer than one."""
        cached: dict[int, NDArray[np.int64]] = self.__dict__.setdefault("_shuffled", {})
        if epoch not in cached:
            for other in [known for known in cached if known != epoch - 1]:
                del cached[other]
            cached[epoch] = np.random.default_rng([self.seed, epoch]).permutation(self.available)
        return cached[epoch]

    def _mine(self, step: int) -> list[int]:
        return self.indices(step)[self.rank :: self.world_size]

    def micro_batches(self, step: int) -> list[tuple[Tensor, Tensor]]:
        """This rank's (inputs, targets), int64 [micro_batch, length] each, of one step."""
        length = self.budget.sequence_length
        starts = (index * length for index in self._mine(step))
        rows = np.stack([self.corpus.tokens[start : start + length + 1] for start in starts]).astype(np.int64)
        blocks = torch.from_numpy(rows).split(self.micro_batch_at(step))
        return [(block[:, :-1].contiguous(), block[:, 1:].contiguous()) for block in blocks]

    def segments(self, step: int) -> list[Tensor]:
        """For each of `micro_batches(step)`: the document of every input token, int64 [micro_batch, length].

        Documents are numbered from 0 in each sequence; an end-of-text token belongs to the document that it closes.
        """
        length, ends = self.budget.sequence_length, self.corpus.documents[:, END]
        rows = np.empty((self.sequences_at(step) // self.world_size, length), dtype=np.int64)
        for row, index in zip(rows, self._mine(step), strict=True):
            # Bisection reads a few entries of the memory-mapped index; numpy's would copy its whole column first.
            first = bisect_right(ends, index * length)
            row[:] = np.searchsorted(ends[first : first + length], index * length + np.arange(length), side="right")
        return list(torch.from_numpy(rows).split(self.micro_batch_at(step)))


def exact(share: float) -> Fraction:
    """The decimal number that a config means: 0.1 of 30 steps are 3, not ceil(3.0000000000000004)."""
    return Fraction(str(share))
