"""The precision of training where the config leaves it to the machine, and what a wrong one costs on a CPU."""

from __future__ import annotations

import logging
from dataclasses import replace

import torch

from clp_transfer.clp.precision import fast_bfloat16_processor
from clp_transfer.files import read_json
from clp_transfer.manifest import Plan
from clp_transfer.train.job import TrainJob

log = logging.getLogger(__name__)
HALF = ("bf16", "bf16_pure")


def settled(job: TrainJob, plan: Plan) -> TrainJob:
    """The job with a precision: its own, else that in which its interrupted run began, else `machine_precision()`.

    So a run has one precision from its first step to its last, wherever it goes on. Warns of bfloat16 on a machine
    that has no instructions for it: some CPUs then multiply number by number (Zen 3: 18 times slower than in float32).
    """
    chosen = job.train.precision or _begun_in(plan) or machine_precision()
    if chosen in HALF and not _multiplies_bfloat16():
        why = "was set" if job.train.precision else "is what the run began in, on another machine"
        log.warning(
            "train.precision=%s %s, but this machine has no instructions for bfloat16: on a CPU, training can be some "
            "twenty times slower than with fp32",
            chosen,
            why,
        )
    return replace(job, train=replace(job.train, precision=chosen))


def machine_precision() -> str:
    """`bf16` on a GPU or CPU that has instructions for it; else `fp32`."""
    return "bf16" if _multiplies_bfloat16() else "fp32"


def _multiplies_bfloat16() -> bool:
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return fast_bfloat16_processor()


def _begun_in(plan: Plan) -> str | None:
    """The precision of the run that a checkpoint of the same plan goes on with; None where there is none."""
    marker, config = plan.working / "plan.json", plan.working / "config.json"
    if not any((plan.working / "checkpoints").glob("step-*")) or not marker.is_file() or not config.is_file():
        return None
    if read_json(marker).get("key") != plan.key:
        return None  # rank 0 deletes it
    begun: str | None = read_json(config)["train"]["precision"]
    return begun
