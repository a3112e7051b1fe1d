"""The learning rate of every step, and the steps after which the loss is measured."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from functools import cached_property
from math import ceil, cos, pi

from clp_transfer.errors import UserError
from clp_transfer.train.batches import Batches, exact
from clp_transfer.train.job import OptimConfig, PhasesConfig, ValidationConfig

EMBEDDINGS, BODY = "embeddings", "body"
GROUPS = (EMBEDDINGS, BODY)


@dataclass(frozen=True)
class Course:
    """A run's updates as the schedules see them: N `steps`, of which the first E `embedding_steps` are phase 1.

    Raises UserError for a group of rates that does not exist, and for a missing peak rate.
    """

    steps: int
    embedding_steps: int
    optim: OptimConfig
    phases: PhasesConfig

    def __post_init__(self) -> None:
        if unknown := set(self.optim.rates) - set(GROUPS):
            raise UserError(f"optim.rates has {', '.join(sorted(unknown))}", f"its groups are {' and '.join(GROUPS)}")
        if self.optim.lr is None:
            raise UserError("optim.lr is not set", "set optim.lr, or give the experiment a tuning table")

    @property
    def peak(self) -> float:
        """The run's peak rate, and that of its second phase."""
        assert self.optim.lr is not None
        return self.optim.lr

    @cached_property
    def warmups(self) -> tuple[int, int]:
        """w and u: the warm-up updates of each phase, as shares of the phase or of the run; 0 for an empty phase."""
        first, second = self.embedding_steps, self.steps - self.embedding_steps
        if self.phases.warmup_of == "run":
            first, second = (self.steps if first else 0), (self.steps if second else 0)
        return ceil(exact(self.phases.warmup_share) * first), ceil(exact(self.optim.warmup_share) * second)

    def frozen(self, step: int) -> bool:
        """Whether the body stands still in this update."""
        return self.phases.freeze and step < self.embedding_steps


def rate(step: int, course: Course) -> float:
    """The rate of an update (from 0), before the factors of the groups.

    Every warm-up is linear and gives its first update a rate above zero, its last one the peak. A run of one phase then
    decays by `optim.schedule`, scaled between the peak and `min_lr_ratio` of it. In a run of two phases the study
    project's formulas hold: update E is the first with the second phase's rates, and a decay is cut off at the floor
    (never a warm-up). `optim.schedule` is then the shape of the second phase and of `plain` and `unified` runs.
    """
    if course.embedding_steps == 0:
        return _single(step, course.steps, course.optim, course.peak)
    return _phased(step, course)


def rates(step: int, course: Course) -> dict[str, float]:
    """The rate of each group of parameters: with the factors of `optim.rates`; a frozen body has 0."""
    base = rate(step, course)
    found = {group: base * course.optim.rates.get(group, 1.0) for group in GROUPS}
    return found | {BODY: 0.0} if course.frozen(step) else found


def _single(step: int, steps: int, optim: OptimConfig, peak: float) -> float:
    """One warm-up, one decay."""
    warmup = max(1, round(optim.warmup_share * steps))
    if step < warmup:
        return peak * (step + 1) / warmup
    floor = optim.min_lr_ratio
    return peak * (floor + (1 - floor) * _decay(optim, step, warmup, steps, 0.5))


def _phased(step: int, course: Course) -> float:
    """Peak of the phase times the schedule's factor."""
    optim, phases = course.optim, course.phases
    in_first = step < course.embedding_steps
    peak = phases.lr if in_first and phases.lr is not None else course.peak
    start, warmup, end = _stretch(step, course)
    if step < start + warmup:
        return peak * (step - start + 1) / warmup
    if phases.schedule == "constant" or (phases.schedule == "mixed" and in_first):
        return peak
    if phases.schedule == "cosine" and in_first:
        factor = _cosine(step - warmup, end - warmup, phases.embedding_cycles)
    else:
        factor = _decay(optim, step - start, warmup, end - start, phases.cycles)
    return max(optim.min_lr_ratio * min(peak, course.peak), peak * factor)


def _stretch(step: int, course: Course) -> tuple[int, int, int]:
    """Of the warm-up and decay that the step is in: where it starts, how long it warms up, where its decay ends."""
    (first, second), boundary = course.warmups, course.embedding_steps
    if course.phases.schedule == "unified":
        return 0, first, course.steps
    if course.phases.schedule == "plain":
        return 0, second, course.steps
    if step >= boundary:
        return boundary, second, course.steps
    return 0, first, course.steps if course.phases.denominator == "run" else boundary


def _decay(optim: OptimConfig, step: int, warmup: int, steps: int, cycles: float) -> float:
    """The factor, 1 to 0, of `optim.schedule` at a step that its warm-up has passed."""
    match optim.schedule:
        case "linear":
            return 1 - (step - warmup) / max(1, steps - warmup)
        case "constant":
            return 1.0
        case "wsd":
            start = max(warmup, steps - round(optim.decay_share * steps))
            return min(1.0, 1 - (step - start) / max(1, steps - start))
    return _cosine(step - warmup, steps - warmup, cycles)


def _cosine(step: int, steps: int, cycles: float) -> float:
    return 0.5 * (1 + cos(2 * pi * cycles * (step / max(1, steps))))


def validation_steps(batches: Batches, config: ValidationConfig) -> list[int]:
    """The steps after which the loss is measured: always 0 (before training) and the last one.

    Between them those that first reach `config.tokens`, else every multiple of `config.every` tokens, else
    `config.points` even steps. Raises UserError for token counts that are not positive.
    """
    if min([*config.tokens, 1 if config.every is None else config.every]) <= 0:
        raise UserError("validation.tokens and validation.every count tokens", "give them values above 0")
    steps, at = batches.steps, batches.tokens_at
    if config.tokens:
        chosen = {bisect_left(range(steps + 1), tokens, key=at) for tokens in config.tokens}
    elif config.every is not None:
        chosen = {step for step in range(1, steps) if at(step) // config.every > at(step - 1) // config.every}
    else:
        chosen = {round(i * steps / config.points) for i in range(config.points + 1)}
    return sorted({0, steps} | {step for step in chosen if step < steps})
