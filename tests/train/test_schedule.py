"""The learning rate against transformers' own schedule."""

from __future__ import annotations

import pytest
import torch
from transformers import get_cosine_with_min_lr_schedule_with_warmup

from clp_transfer.train.job import OptimConfig
from clp_transfer.train.schedule import best_rate, rate, validation_steps


def test_cosine_is_transformers_one() -> None:
    optim = OptimConfig(warmup_share=0.1, min_lr_ratio=0.1)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2e-3)
    theirs = get_cosine_with_min_lr_schedule_with_warmup(optimizer, 20, 200, min_lr_rate=0.1)
    for step in range(200):
        expected = theirs.get_last_lr()[0]
        # Theirs starts the warm-up at zero, wasting the first update; ours starts one warm-up step later.
        wanted = 2e-3 * (step + 1) / 20 if step < 20 else expected
        assert rate(step, 200, optim, 2e-3) == pytest.approx(wanted, rel=1e-6)
        optimizer.step()
        theirs.step()


def test_validation_steps_start_at_zero_and_end_at_the_end() -> None:
    assert validation_steps(10, 5) == [0, 2, 4, 6, 8, 10]
    assert validation_steps(3, 10) == [0, 1, 2, 3]


def test_best_rate_has_the_lowest_loss() -> None:
    assert best_rate({1e-3: 6.2, 2e-3: 6.0, 4e-3: 6.1}) == 2e-3
