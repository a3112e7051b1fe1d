"""The learning rate against transformers' own schedules and against the study project's formulas."""

from __future__ import annotations

import itertools
import math
from types import SimpleNamespace

import pytest
import torch
from transformers import (
    get_constant_schedule_with_warmup,
    get_cosine_with_min_lr_schedule_with_warmup,
    get_linear_schedule_with_warmup,
    get_wsd_schedule,
)

from clp_transfer.errors import UserError
from clp_transfer.train.job import OptimConfig, PhasesConfig, ValidationConfig, best_rate
from clp_transfer.train.schedule import Course, rate, rates, validation_steps


def theirs(make, steps: int) -> list[float]:
    """The rates of transformers' schedule at a peak of 2e-3."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2e-3)
    schedule, found = make(optimizer), []
    for _ in range(steps):
        found.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return found


SINGLE = {
    "cosine": (0.1, lambda o: get_cosine_with_min_lr_schedule_with_warmup(o, 20, 200, min_lr_rate=0.1)),
    "linear": (0.0, lambda o: get_linear_schedule_with_warmup(o, 20, 200)),
    "constant": (0.3, lambda o: get_constant_schedule_with_warmup(o, 20)),
    "wsd": (
        0.1,
        lambda o: get_wsd_schedule(
            o, 20, num_decay_steps=40, num_stable_steps=140, min_lr_ratio=0.1, decay_type="linear"
        ),
    ),
}


@pytest.mark.parametrize("name", SINGLE)
def test_a_run_of_one_phase_has_transformers_schedule(name) -> None:
    floor, make = SINGLE[name]
    optim = OptimConfig(lr=2e-3, schedule=name, warmup_share=0.1, decay_share=0.2, min_lr_ratio=floor)
    course = Course(200, 0, optim, PhasesConfig())
    for step, expected in enumerate(theirs(make, 200)):
        # Theirs starts the warm-up at zero, wasting the first update; ours starts one warm-up step later.
        wanted = 2e-3 * (step + 1) / 20 if step < 20 else expected
        assert rate(step, course) == pytest.approx(wanted, rel=1e-6), step


def naive(t: int, n: int, e: int, o: OptimConfig, p: PhasesConfig) -> float:
    """The study project's formulas one by one, but for the first update of a warm-up, which has a rate above 0."""
    of_first, of_second = (e, n - e) if p.warmup_of == "phase" else (n if e > 0 else 0, n if e < n else 0)
    w, u = (
        math.ceil(of_first * round(p.warmup_share * 100) / 100),
        math.ceil(of_second * round(o.warmup_share * 100) / 100),
    )
    peak = p.lr if t < e and p.lr is not None else o.lr
    floor = min(o.min_lr_ratio * o.lr, o.min_lr_ratio * peak)

    def half(done: float, whole: float, c: float) -> float:
        return max(floor, peak * (1 + math.cos(2 * math.pi * c * done / whole)) / 2)

    if p.schedule == "unified":
        return peak * (t + 1) / w if t < w else half(t - w, n - w, p.cycles)
    if p.schedule == "plain":
        return peak * (t + 1) / u if t < u else half(t - u, n - u, p.cycles)
    if t < e and t < w:
        return peak * (t + 1) / w
    if t < e:  # w <= t < E
        if p.schedule in ("mixed", "constant"):
            return peak
        return half(t - w, (n if p.denominator == "run" else e) - w, p.embedding_cycles)
    if t < e + u:
        return peak * (t - e + 1) / u
    return peak if p.schedule == "constant" else half(t - e - u, n - e - u, p.cycles)


GRID = itertools.product(
    ("cosine", "mixed", "constant", "unified", "plain"),
    ("phase", "run"),
    ("phase", "run"),
    ((0.0, 0.0), (0.1, 0.1), (0.01, 0.3), (0.3, 0.01)),
    ((1, 1), (40, 1), (40, 4), (40, 30), (40, 39), (40, 40)),
)


@pytest.mark.parametrize(("schedule", "denominator", "warmup_of", "warmups", "counts"), GRID)
def test_two_phases_have_the_formulas_rates(schedule, denominator, warmup_of, warmups, counts) -> None:
    steps, first = counts
    for cycles, peak, floor in (((0.5, 0.5), 1e-2, 0.1), ((1.5, 0.25), None, 0.0), ((0.5, 1.0), 1e-4, 0.5)):
        phases = PhasesConfig(
            *(first / steps, True, False, peak, warmups[0], warmup_of, schedule, denominator, *cycles)
        )
        optim = OptimConfig(lr=3e-3, warmup_share=warmups[1], min_lr_ratio=floor)
        course = Course(steps, first, optim, phases)
        for step in range(steps):
            assert rate(step, course) == pytest.approx(naive(step, steps, first, optim, phases), rel=1e-9), step


def test_a_share_of_zero_is_a_run_of_one_phase() -> None:
    optim = OptimConfig(lr=1.0)
    plain = Course(50, 0, optim, PhasesConfig())
    other = Course(50, 0, optim, PhasesConfig(lr=9.0, schedule="constant", warmup_share=1.0))
    assert [rate(s, plain) for s in range(50)] == [rate(s, other) for s in range(50)]


def test_the_boundary_is_not_off_by_one_and_a_warm_up_has_no_floor() -> None:
    optim = OptimConfig(lr=1.0, warmup_share=0.2, min_lr_ratio=0.5)
    phases = PhasesConfig(share=0.5, lr=8.0, schedule="constant", warmup_share=0.0)
    assert [rate(s, Course(20, 10, optim, phases)) for s in (9, 10, 11, 12)] == [8.0, 0.5, 1.0, 1.0]
    long = OptimConfig(lr=1.0, warmup_share=1.0, min_lr_ratio=0.5)
    assert rate(10, Course(20, 10, long, phases)) == pytest.approx(0.1)


@pytest.mark.parametrize("schedule", ["cosine", "mixed"])
def test_the_second_phase_may_have_another_shape(schedule) -> None:
    optim = OptimConfig(lr=1.0, schedule="wsd", warmup_share=0.0, decay_share=0.5, min_lr_ratio=0.1)
    course = Course(20, 10, optim, PhasesConfig(share=0.5, schedule=schedule))
    wanted = [1.0] * 5 + [1.0, 0.8, 0.6, 0.4, 0.2]
    assert [rate(s, course) for s in range(10, 20)] == pytest.approx(wanted)


def test_groups_have_their_factors_and_a_frozen_body_none() -> None:
    optim = OptimConfig(lr=1.0, schedule="constant", warmup_share=0.0, rates={"embeddings": 4.0, "body": 0.5})
    phases = PhasesConfig(share=0.5, schedule="constant", warmup_share=0.0)
    assert rates(9, Course(20, 10, optim, phases)) == {"embeddings": 4.0, "body": 0.0}
    assert rates(10, Course(20, 10, optim, phases)) == {"embeddings": 4.0, "body": 0.5}
    phases.freeze = False
    assert rates(9, Course(20, 10, optim, phases)) == {"embeddings": 4.0, "body": 0.5}


@pytest.mark.parametrize(
    ("optim", "phases", "message"),
    [
        (OptimConfig(lr=1.0, rates={"head": 1.0}), PhasesConfig(), r"optim\.rates has head"),
        (OptimConfig(), PhasesConfig(), r"optim\.lr is not set"),
    ],
)
def test_unknown_options_are_named(optim, phases, message) -> None:
    with pytest.raises(UserError, match=message):
        Course(10, 0, optim, phases)


class TestValidationSteps:
    """On 10 steps of 100 tokens, after 4 of 50."""

    run = SimpleNamespace(steps=14, tokens_at=lambda step: min(step, 4) * 50 + max(0, step - 4) * 100)

    def test_they_start_at_zero_and_end_at_the_end(self) -> None:
        ten = SimpleNamespace(steps=10, tokens_at=lambda step: step)
        assert validation_steps(ten, ValidationConfig(points=5)) == [0, 2, 4, 6, 8, 10]
        ten.steps = 3
        assert validation_steps(ten, ValidationConfig(points=10)) == [0, 1, 2, 3]

    def test_at_token_counts(self) -> None:
        config = ValidationConfig(tokens=[50, 60, 250, 300, 5000], every=1)
        assert validation_steps(self.run, config) == [0, 1, 2, 5, 14]

    def test_every_so_many_tokens(self) -> None:
        assert validation_steps(self.run, ValidationConfig(every=150)) == [0, 3, 5, 7, 8, 10, 11, 13, 14]
        assert validation_steps(self.run, ValidationConfig(every=10)) == list(range(15))

    @pytest.mark.parametrize("config", [ValidationConfig(every=0), ValidationConfig(tokens=[100, -1])])
    def test_counts_that_make_no_sense(self, config) -> None:
        with pytest.raises(UserError, match="count tokens"):
            validation_steps(self.run, config)


def test_best_rate_has_the_lowest_loss() -> None:
    assert best_rate({1e-3: 6.2, 2e-3: 6.0, 4e-3: 6.1}) == 2e-3
