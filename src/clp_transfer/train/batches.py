"""Which sequences each step sees: fixed by the seed and the step alone, not by the number of ranks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from clp_transfer.errors import UserError
from clp_transfer.packed import PackedCorpus
from clp_transfer.train.job import BudgetConfig


@dataclass(frozen=True)
class Batches:
    """Batches of sequences cut from a pack; step s is computed, not iterated to, so resuming costs nothing."""

    corpus: PackedCorpus
    budget: BudgetConfig
    seed: int
    rank: int = 0
    world_size: int = 1

    def __post_init__(self) -> None:
        if self.sequences == 0 or self.budget.batch_tokens % self.budget.sequence_length:
            raise UserError(
                f"budget.batch_tokens={self.budget.batch_tokens} is not a multiple of "
                f"budget.sequence_length={self.budget.sequence_length}",
                "make it a multiple",
            )
        if self.sequences % self.world_size:
            raise UserError(
                f"{self.sequences} sequences a step cannot be shared by {self.world_size} ranks",
                "make budget.batch_tokens / budget.sequence_length a multiple of the number of ranks",
            )
        if self.available < self.sequences:
            raise UserError(
                f"{self.corpus.prefix} has {len(self.corpus.tokens):,} tokens: not one step of "
                f"{self.budget.batch_tokens:,} tokens",
                "give more text or lower budget.batch_tokens",
            )

    @property
    def sequences(self) -> int:
        """Sequences a step, over all ranks."""
        return self.budget.batch_tokens // self.budget.sequence_length

    @property
    def available(self) -> int:
        """Whole sequences in the pack (each needs one token more than its length, for the last target)."""
        return (len(self.corpus.tokens) - 1) // self.budget.sequence_length

    @property
    def steps(self) -> int:
        """Steps that spend the token budget."""
        return max(1, -(-self.budget.tokens // self.budget.batch_tokens))

    @property
    def micro_batch(self) -> int:
        """Sequences that a rank computes at once: the largest share of its batch that the config allows."""
        mine = self.sequences // self.world_size
        return max(size for size in range(1, mine + 1) if mine % size == 0 and size <= max(1, self.budget.micro_batch))

    @property
    def accumulation(self) -> int:
        """Micro-batches a rank computes in each step."""
        return self.sequences // self.world_size // self.micro_batch

    def indices(self, step: int) -> list[int]:
        """The step's sequences over all ranks: consecutive entries of a new shuffle for every epoch."""
        chosen: list[int] = []
        for position in range(step * self.sequences, (step + 1) * self.sequences):
            epoch, offset = divmod(position, self.available)
            chosen.append(int(self._order(epoch)[offset]))
        return chosen

    def _order(self, epoch: int) -> np.ndarray:
        cached = self.__dict__.get("_shuffled")
        if cached is None or cached[0] != epoch:
            shuffled = np.random.default_rng([self.seed, epoch]).permutation(self.available)
            object.__setattr__(self, "_shuffled", (epoch, shuffled))
            return shuffled
        return cached[1]

    def micro_batches(self, step: int) -> list[tuple[Tensor, Tensor]]:
        """This rank's (inputs, targets), int64 [micro_batch, length] each, of one step."""
        length = self.budget.sequence_length
        mine = self.indices(step)[self.rank :: self.world_size]
        rows = np.stack([self.corpus.tokens[i * length : i * length + length + 1] for i in mine]).astype(np.int64)
        blocks = torch.from_numpy(rows).split(self.micro_batch)
        return [(block[:, :-1].contiguous(), block[:, 1:].contiguous()) for block in blocks]
