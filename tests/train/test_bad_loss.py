"""A bad loss stops the run or its step is skipped, by a rule that is written out here again."""

from __future__ import annotations

import json
import math

import pytest

from clp_transfer.errors import UserError
from clp_transfer.train.bad_loss import BadLoss


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_stops_the_run_and_names_the_checkpoint(loss: float) -> None:
    policy = BadLoss(checkpoint=lambda: "checkpoints/step-7")
    assert policy.check(3.0, 8) == "ok"
    with pytest.raises(
        UserError, match=rf"(?s)loss is {loss:g} at step 9.*lower optim\.lr.*good checkpoint is .*step-7"
    ):
        policy.check(loss, 9)


def test_gradients_that_are_not_finite_are_bad_too() -> None:
    with pytest.raises(UserError, match="norm of its gradients is inf"):
        BadLoss().check(3.0, 1, norm=math.inf)
    assert BadLoss().check(3.0, 1, norm=1e9) == "ok"


def test_a_spike_is_judged_by_the_running_mean_of_good_steps() -> None:
    policy = BadLoss("skip", spike=2.0)
    losses = [9.0] * 10 + [3.0] * 30 + [6.5, 3.0, 5.9]
    answers = [policy.check(loss, step) for step, loss in enumerate(losses, 1)]
    mean, good, expected = 0.0, 0, []
    for loss in losses:
        bad = good >= 20 and loss > 2 * mean
        expected.append("skip" if bad else "ok")
        if not bad:
            good += 1
            mean = sum(losses[:good]) / good if good <= 20 else 0.95 * mean + 0.05 * loss
    assert answers == expected and policy.seen.mean == pytest.approx(mean)


def test_nothing_is_a_spike_before_it_is_warm_or_without_the_option() -> None:
    assert BadLoss("stop", spike=2.0).check(1e6, 1) == "ok"
    policy = BadLoss("stop")
    assert {policy.check(loss, 1) for loss in [1.0] * 50 + [1e6]} == {"ok"}


def test_skipping_ends_after_so_many_steps_in_a_row() -> None:
    policy = BadLoss("skip", most=3)
    for _ in range(2):  # a good step begins the count anew
        assert policy.check(2.0, 1) == "ok"
        assert [policy.check(math.nan, step) for step in (2, 3, 4)] == ["skip"] * 3
    with pytest.raises(UserError, match="after 3 skipped steps in a row"):
        policy.check(math.nan, 5)
    assert policy.seen.skipped == 6


def test_a_resumed_run_decides_as_the_uninterrupted_one() -> None:
    whole, first, second = (BadLoss("skip", spike=1.5) for _ in range(3))
    losses = [4 + math.sin(step) for step in range(40)] + [7.5, 7.0, 6.4, 3.0]
    expected = [whole.check(loss, step) for step, loss in enumerate(losses)]
    begun = [first.check(loss, step) for step, loss in enumerate(losses[:30])]
    second.restore(json.loads(json.dumps(first.state())))
    assert begun + [second.check(loss, 30 + step) for step, loss in enumerate(losses[30:])] == expected
    assert second.state() == whole.state() and "skip" in expected
