"""The data order: fixed by seed and step, the same for any number of ranks, each sequence once an epoch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from clp_transfer.errors import UserError
from clp_transfer.packed import PackedCorpus
from clp_transfer.train.batches import Batches
from clp_transfer.train.job import BudgetConfig, PhasesConfig

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


@pytest.mark.parametrize(
    ("budget", "phases", "wanted"),
    [
        ({"tokens": 2560}, {}, (10, 0)),
        ({"tokens": 2561}, {}, (11, 0)),
        ({"tokens": 1}, {}, (1, 0)),
        ({"tokens": 1}, {"share": 0.01}, (1, 1)),
        ({"steps": 30}, {"share": 0.1}, (30, 3)),  # as a float, 0.1 · 30 is a little more than 3
        ({"steps": 30}, {"share": 0.11}, (30, 4)),
        ({"steps": 30}, {"share": 1.0}, (30, 30)),
        ({"tokens": 2560}, {"share": 0.5, "batch_tokens": 64}, (25, 20)),
        ({"tokens": 2560}, {"share": 0.45, "batch_tokens": 64}, (24, 18)),
        ({"tokens": 2560}, {"share": 1.0, "batch_tokens": 64}, (40, 40)),
        ({"tokens": 2560}, {"share": 0.0, "batch_tokens": 64}, (10, 0)),
        ({"steps": 25}, {"share": 0.5, "batch_tokens": 64}, (25, 20)),
        ({"steps": 25}, {"share": 1.0, "batch_tokens": 64}, (25, 25)),
    ],
)
def test_the_budget_is_in_tokens_or_steps(world, budget, phases, wanted) -> None:
    small = BudgetConfig(**({"batch_tokens": 256, "sequence_length": 32} | budget))
    batches = Batches(PackedCorpus(world.train_pack), small, 1, phases=PhasesConfig(**phases))
    assert (batches.steps, batches.embedding_steps) == wanted


def test_the_budget_is_in_epochs(world) -> None:
    corpus = PackedCorpus(world.train_pack)
    for epochs in (0.1, 1, 2.5):
        batches = Batches(corpus, BudgetConfig(epochs=epochs, batch_tokens=256, sequence_length=32), 1)
        used = batches.first_sequence(batches.steps)
        assert used - batches.sequences < epochs * batches.available <= used
    with pytest.raises(UserError, match="both set"):
        Batches(corpus, BudgetConfig(epochs=1, steps=1, batch_tokens=256, sequence_length=32), 1)


@pytest.mark.parametrize("batch_tokens", [64, 512])
def test_phases_do_not_change_the_order(world, batch_tokens: int) -> None:
    corpus = PackedCorpus(world.train_pack)
    phases = PhasesConfig(share=0.4, batch_tokens=batch_tokens)
    budget = BudgetConfig(tokens=40_000, batch_tokens=256, sequence_length=32, micro_batch=3)
    plain, phased = Batches(corpus, budget, 3), Batches(corpus, budget, 3, phases=phases)
    assert phased.tokens > 2 * phased.available * 32, "more than two epochs"
    order = [i for step in range(plain.steps + 2) for i in plain.indices(step)]
    seen: list[int] = []
    for step in range(phased.steps):
        assert (phased.first_sequence(step), phased.tokens_at(step)) == (len(seen), 32 * len(seen))
        assert Batches(corpus, budget, 3, phases=phases).indices(step) == phased.indices(step)
        seen += phased.indices(step)
        blocks = phased.micro_batches(step)
        assert len(blocks) == phased.accumulation_at(step) and len(blocks[0][0]) == phased.micro_batch_at(step) <= 3
    assert seen == order[: len(seen)] and phased.tokens == 32 * len(seen)
    share = phased.tokens_at(phased.embedding_steps) / 40_000
    assert 0.4 <= share < 0.4 + batch_tokens / 40_000


def test_a_phase_that_does_not_fit_is_named(world) -> None:
    corpus = PackedCorpus(world.train_pack)
    with pytest.raises(UserError, match=r"phases\.batch_tokens=100"):
        Batches(corpus, BUDGET, 1, phases=PhasesConfig(share=0.1, batch_tokens=100))
    with pytest.raises(UserError, match=r"phases\.batch_tokens / budget"):
        Batches(corpus, BUDGET, 1, 0, 4, PhasesConfig(share=0.1, batch_tokens=64))
    Batches(corpus, BUDGET, 1, 0, 4, PhasesConfig(share=0.0, batch_tokens=64))


@pytest.mark.parametrize("world_size", [1, 2])
def test_segments_are_the_documents(world, world_size: int) -> None:
    """Against counting the end-of-text tokens before each token."""
    for rank in range(world_size):
        batches = Batches(PackedCorpus(world.train_pack), BUDGET, 1, rank, world_size)
        for step in (0, 7):
            found = batches.segments(step)
            assert len(found) == batches.accumulation
            for (inputs, _), segments in zip(batches.micro_batches(step), found, strict=True):
                ended = (inputs == 0).long()
                assert torch.equal(segments, ended.cumsum(1) - ended)
                assert segments.max() > 0
