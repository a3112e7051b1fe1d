"""How many micro-batches make an update, which may change between the phases."""

from __future__ import annotations

from typing import Any

from clp_transfer.train.batches import Batches


def set_batch(accelerator: Any, wrapped: Any, batches: Batches, step: int) -> None:
    """Tell accelerate, and DeepSpeed under it, how the update that begins now is made up.

    accelerate counts micro-batches over all updates and steps where the count is a multiple; starting each update at 0
    keeps it in line when the multiple changes.
    """
    accelerator.step = 0
    accelerator.gradient_accumulation_steps = batches.accumulation_at(step)
    if hasattr(wrapped, "set_train_batch_size"):
        micro, whole = batches.micro_batch_at(step), batches.sequences_at(step)
        if wrapped.train_micro_batch_size_per_gpu() != micro:
            wrapped.set_train_micro_batch_size(micro)
        if wrapped.train_batch_size() != whole:
            wrapped.set_train_batch_size(whole)
