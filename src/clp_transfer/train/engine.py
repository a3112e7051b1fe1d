"""The accelerate set-up: one process, DDP, or DeepSpeed ZeRO, on GPUs or on CPUs."""

from __future__ import annotations

import os
import socket
from typing import Any

import torch

from clp_transfer.errors import UserError
from clp_transfer.train.job import TrainJob

PRECISIONS = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}


def build(job: TrainJob, accumulation: int, micro_batch: int) -> Any:
    """An `Accelerator` for this process; raises UserError for an unknown precision or ZeRO stage."""
    if job.train.precision not in PRECISIONS:
        raise UserError(f"train.precision={job.train.precision} is unknown", f"choose one of {', '.join(PRECISIONS)}")
    on_cpu = not torch.cuda.is_available()
    if on_cpu and job.train.precision == "fp16":
        raise UserError("train.precision=fp16 needs a GPU", "use bf16 or fp32 on a CPU")
    if on_cpu:
        # Without this DeepSpeed looks for a GPU and accelerate silently falls back to DDP.
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    from accelerate import Accelerator, DeepSpeedPlugin
    from accelerate.state import AcceleratorState
    from accelerate.utils import DistributedType

    if not torch.distributed.is_initialized():
        # accelerate keeps the precision of a process's first run; a second one may have another.
        AcceleratorState._reset_state(reset_partial_state=True)
    settings: dict[str, Any] = {
        "mixed_precision": PRECISIONS[job.train.precision],
        "gradient_accumulation_steps": accumulation,
    }
    if job.deepspeed.stage is None:
        # Never cpu=True with DeepSpeed: it makes accelerate leave DeepSpeed out and use DDP, silently.
        settings["cpu"] = on_cpu
    else:
        _be_a_group_of_one()
        settings["deepspeed_plugin"] = DeepSpeedPlugin(hf_ds_config=deepspeed_config(job, accumulation, micro_batch))
    try:
        accelerator = Accelerator(**settings)
    except torch.distributed.DistError as error:
        address = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        raise UserError(
            f"the ranks cannot meet at {address}: {str(error).splitlines()[0]}",
            "another job may hold that port: choose one with torchrun --master_port",
        ) from error
    if job.deepspeed.stage is None:
        return accelerator
    if accelerator.distributed_type != DistributedType.DEEPSPEED:
        raise UserError(
            f"deepspeed.stage={job.deepspeed.stage} was asked for, but accelerate chose {accelerator.distributed_type}",
            "check that deepspeed is installed, and run under torchrun",
        )
    _tell_ranks()
    return accelerator


def _tell_ranks() -> None:
    """Give accelerate its rank and world size, which it leaves at 0 of 1 for DeepSpeed on CPUs.

    Every rank would take itself for the main one, and write the same files.
    """
    from accelerate.state import AcceleratorState, PartialState

    ranks = {
        "num_processes": torch.distributed.get_world_size(),
        "process_index": torch.distributed.get_rank(),
        "local_process_index": int(os.environ.get("LOCAL_RANK", "0")),
    }
    for state in (PartialState, AcceleratorState):
        state._shared_state.update(ranks)


def _be_a_group_of_one() -> None:
    """Without a launcher, give DeepSpeed the process group of one that it insists on."""
    if "WORLD_SIZE" in os.environ:
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    alone = {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 1, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in alone.items()})


def world() -> tuple[int, int]:
    """This process's rank and the number of processes, from the launcher's environment."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def deepspeed_config(job: TrainJob, accumulation: int, micro_batch: int) -> dict[str, Any]:
    """DeepSpeed's own JSON. The optimizer is torch's, so no CUDA extension is built."""
    zero: dict[str, Any] = {
        "stage": job.deepspeed.stage,
        "overlap_comm": job.deepspeed.overlap_comm,
        "contiguous_gradients": True,
        "reduce_bucket_size": job.deepspeed.bucket_size,
        "allgather_bucket_size": job.deepspeed.bucket_size,
    }
    if job.deepspeed.stage == 3:
        zero["stage3_gather_16bit_weights_on_model_save"] = True
    if job.deepspeed.offload_optimizer:
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": True}
    return {
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "train_micro_batch_size_per_gpu": micro_batch,
        "gradient_accumulation_steps": accumulation,
        "gradient_clipping": job.optim.clip_norm,
        "bf16": {"enabled": job.train.precision == "bf16"},
        "fp16": {"enabled": job.train.precision == "fp16"},
    }
