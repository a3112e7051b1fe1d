"""The data order: fixed by seed and step, the same for any number of ranks, each sequence once an epoch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from clp_transfer.errors import UserError
from clp_transfer.packed import PackedCorpus
from clp_transfer.train.batches import Batches
from clp_transfer.train.job import BudgetConfig

BUDGET = BudgetConfig(tokens=10_000, batch_tokens=256, sequence_length=32, micro_batch=3)


def test_every_sequence_once_an_epoch(world) -> None:
    batches = Batches(PackedCorpus(world.train_pack), BUDGET, seed=3)
    steps = batches.available // batches.sequences + 1
    seen = [i for s in range(steps) for i in batches.indices(s)]
    assert sorted(seen[: batches.available]) == list(range(batches.available))
    assert seen[: batches.available] != sorted(seen[: batches.available])


def test_order_is_computed_not_iterated(world) -> None:
    corpus = PackedCorpus(world.train_pack)
    forwards = [Batches(corpus, BUDGET, seed=3).indices(s) for s in (0, 30, 31)]
    one = Batches(corpus, BUDGET, seed=3)
    assert [one.indices(s) for s in (31, 30, 0)] == forwards[::-1]
    assert Batches(corpus, BUDGET, seed=4).indices(0) != forwards[0]


@pytest.mark.parametrize("world_size", [2, 4, 8])
def test_ranks_share_the_same_step(world, world_size: int) -> None:
    corpus = PackedCorpus(world.train_pack)
    alone = Batches(corpus, BUDGET, seed=1)
    whole = torch.cat([x for x, _ in alone.micro_batches(5)])
    shares = [Batches(corpus, BUDGET, 1, rank, world_size) for rank in range(world_size)]
    parts = torch.cat([x for one in shares for x, _ in one.micro_batches(5)])
    assert sorted(map(tuple, whole.tolist())) == sorted(map(tuple, parts.tolist()))
    for one in shares:
        assert one.micro_batch <= 3 and one.micro_batch * one.accumulation * world_size == one.sequences


def test_targets_are_the_next_tokens(world) -> None:
    corpus = PackedCorpus(world.train_pack)
    batches = Batches(corpus, BUDGET, seed=1)
    first = batches.indices(0)[0] * 32
    inputs, targets = batches.micro_batches(0)[0]
    np.testing.assert_array_equal(inputs[0], corpus.tokens[first : first + 32])
    np.testing.assert_array_equal(targets[0], corpus.tokens[first + 1 : first + 33])


def test_budgets_that_do_not_fit(world) -> None:
    corpus = PackedCorpus(world.train_pack)
    with pytest.raises(UserError, match="multiple"):
        Batches(corpus, BudgetConfig(batch_tokens=100, sequence_length=32), 1)
    with pytest.raises(UserError, match="ranks"):
        Batches(corpus, BUDGET, 1, 0, 3)
    with pytest.raises(UserError, match="not one step"):
        Batches(corpus, BudgetConfig(batch_tokens=32_000_000, sequence_length=32), 1)
