"""The precision of training where the config leaves it to the machine, and what a wrong one costs on a CPU."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import torch

from clp_transfer.clp.precision import fast_bfloat16_processor
from clp_transfer.train.job import TrainJob

log = logging.getLogger(__name__)


def settled(job: TrainJob) -> TrainJob:
    """The job with a precision: its own, else `machine_precision()`.

    Warns of bfloat16 on a CPU that has no instructions for it: torch then multiplies number by number, about fifty
    times slower than in float32.
    """
    own = job.train.precision
    if own in ("bf16", "bf16_pure") and not _multiplies_bfloat16():
        log.warning(
            "train.precision=%s: this processor has no bfloat16 instructions, and training will be some fifty times "
            "slower than with fp32; leave train.precision out to have it chosen",
            own,
        )
    return replace(job, train=replace(job.train, precision=own or machine_precision()))


def machine_precision() -> str:
    """`bf16` on a GPU, and on a CPU with instructions for it; else `fp32`."""
    return "bf16" if _multiplies_bfloat16() else "fp32"


def _multiplies_bfloat16() -> bool:
    return torch.cuda.is_available() or fast_bfloat16_processor()


def tell_of_change(job: TrainJob, begun_with: Path) -> None:
    """Warn where a run goes on in another precision than it began with (`begun_with`: its config.json, if any)."""
    if not begun_with.is_file():
        return
    before = json.loads(begun_with.read_text(encoding="utf-8"))["train"]["precision"]
    if before != job.train.precision:
        log.warning(
            "%s: began in %s, on another kind of machine, and goes on in %s", job.name, before, job.train.precision
        )
