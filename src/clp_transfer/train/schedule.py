"""The learning rate of every step."""

from __future__ import annotations

import math

from clp_transfer.train.job import OptimConfig


def rate(step: int, steps: int, optim: OptimConfig, peak: float) -> float:
    """Linear warm-up over `warmup_share` of the steps, then half a cosine down to `min_lr_ratio` of the peak.

    `step` counts from 0; the first update already has a rate above zero and the last one the minimum's neighbour.
    """
    warmup = max(1, round(optim.warmup_share * steps))
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    floor = optim.min_lr_ratio
    return peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress)))


def best_rate(table: dict[float, float]) -> float:
    """The peak rate with the lowest measured loss, from a table of rate to loss."""
    return min(table, key=lambda lr: table[lr])


def validation_steps(steps: int, points: int) -> list[int]:
    """The steps after which the loss is measured: 0 (before training), then `points` evenly spaced ones."""
    return sorted({round(i * steps / points) for i in range(points + 1)})
